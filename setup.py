"""Build chatd._native, the engine. Everything else about the project is in pyproject.toml.

Linux: the extension is always built, and the build fails when it cannot be; a server that silently falls back to
something slower is worse than one that does not start. Other systems install the client and the wire layer only.
CHATD_PURE=1      skip the extension on purpose (client-only installation on Linux without a compiler)
CHATD_DEBUG=1     keep the expensive invariants (chatd_assert) and debug symbols
CHATD_SANITIZE=1  AddressSanitizer and UndefinedBehaviorSanitizer, edges counted for the fuzzer; see `make sanitize`
CHATD_COVERAGE=1  lines and branches counted by gcov; see `make coverage`
CHATD_SABOTAGES=1 deliberate faults, chosen at run time by SABOTAGE=n; see `make sabotage`. Never installed
CHATD_BUILD_DIR   where the generated C goes (default build/cython)
"""

import os
import platform
import sys
from pathlib import Path

from setuptools import Extension, setup

NATIVE = Path("native")

# Cython's generated C holds under -Wall -Wextra, but not under -Wconversion and -Wshadow, and which other warnings it
# raises changes with compiler and Cython; so -Werror is limited to those that are always bugs. The hand-written headers
# hold under all of them, which `make check` compiles them with.
WARNING_FLAGS = [
    "-Wall",
    "-Wextra",
    "-Wno-unused-parameter",
    "-Wno-missing-field-initializers",
    "-Wno-sign-compare",
    "-Werror=implicit-function-declaration",
    "-Werror=incompatible-pointer-types",
    "-Werror=int-conversion",
    "-Werror=return-type",
    "-Werror=format",
]
HARDENING_FLAGS = [
    "-O2",
    "-U_FORTIFY_SOURCE",
    "-D_FORTIFY_SOURCE=3",
    "-fstack-protector-strong",
    "-fstack-clash-protection",
]
if platform.machine() in {"x86_64", "AMD64"}:
    HARDENING_FLAGS.append("-fcf-protection")
SANITIZE_FLAGS = [
    "-O1",
    "-g",
    "-fno-omit-frame-pointer",
    "-U_FORTIFY_SOURCE",
    "-fsanitize=address,undefined",
    "-fno-sanitize-recover=undefined",
    "-fsanitize-coverage=trace-pc",
]
EDGES = "tests/fuzz/edges.c"
COVERAGE_FLAGS = ["-O0", "-U_FORTIFY_SOURCE", "--coverage", "-fprofile-update=atomic"]
# What the compiler and what the linker is told.
BUILDS = {
    "release": (HARDENING_FLAGS, ["-Wl,-z,relro,-z,now"]),
    "sanitize": (SANITIZE_FLAGS, ["-fsanitize=address,undefined"]),
    "coverage": (COVERAGE_FLAGS, ["--coverage"]),
}


def enabled(name: str) -> bool:
    return os.environ.get(name, "0") not in {"", "0"}


def native_extension() -> list[Extension]:
    if enabled("CHATD_PURE") or not sys.platform.startswith("linux"):
        return []
    from Cython.Build import cythonize

    sanitize, coverage = enabled("CHATD_SANITIZE"), enabled("CHATD_COVERAGE")
    macros: list[tuple[str, str | None]] = [("_GNU_SOURCE", None)]
    if enabled("CHATD_DEBUG") or sanitize:
        macros.append(("CHATD_DEBUG", "1"))
    if enabled("CHATD_SABOTAGES"):
        macros.append(("CHATD_SABOTAGES", "1"))
    compile_flags, link_flags = BUILDS["sanitize" if sanitize else "coverage" if coverage else "release"]
    parts = sorted(str(path) for pattern in ("*.pxi", "*.pxd", "*.h") for path in NATIVE.rglob(pattern))
    extension = Extension(
        "chatd._native",
        sources=[str(NATIVE / "_native.pyx"), *([EDGES] if sanitize else [])],
        include_dirs=[str(NATIVE), str(NATIVE / "common")],
        depends=parts,
        define_macros=macros,
        extra_compile_args=[*WARNING_FLAGS, *compile_flags, "-g", "-std=gnu11", "-fvisibility=hidden"],
        extra_link_args=link_flags,
    )
    extensions: list[Extension] = cythonize(
        [extension],
        build_dir=os.environ.get("CHATD_BUILD_DIR", "build/cython"),
        include_path=[str(NATIVE)],
        compiler_directives={
            "language_level": 3,
            "boundscheck": True,
            "wraparound": False,
            "embedsignature": False,
            "binding": True,
            "auto_pickle": False,
            "autotestdict": False,
            # A switch hides which of two names joined by `or` it was.
            "optimize.use_switch": not coverage,
        },
    )
    return extensions


setup(ext_modules=native_extension())
