"""What no linter holds: layering, lengths, leftovers, bounds. It reads sources, it runs nothing."""

import ast
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILE_LINES_MAX = 500
FUNCTION_LINES_MAX = 70

# Longer on purpose. Every entry says why.
LONG_FILES: dict[str, str] = {}
LONG_FUNCTIONS: dict[str, str] = {}

# ARCHITECTURE.md, section Layering: what a layer may import of chatd. Libraries are a matter of review, but for
# FORBIDDEN_LIBRARIES. "chatd.errors" and "chatd" (the version) are free to all.
TOP = {"chatd.supervisor", "chatd.shard", "chatd.server", "chatd.worker", "chatd.init", "chatd.cli", "chatd.__main__"}
EVERYTHING = {"chatd"}
MAY_IMPORT: dict[str, set[str]] = {
    "chatd.errors": set(),
    "chatd.wire": set(),
    "chatd.client": {"chatd.wire"},
    "chatd.testing": {"chatd.client", "chatd.wire", "chatd.secrets"},
    "chatd.storage": {"chatd.config", "chatd.bridge"},
    "chatd.bridge": set(),
    "chatd.clock": set(),
    "chatd.config": set(),
    "chatd.logs": set(),
    "chatd.secrets": set(),
    "chatd.engine": {"chatd.wire"},
    "chatd.hub": {"chatd.wire", "chatd.engine", "chatd.storage", "chatd.config", "chatd.clock"},
    "chatd.services": {"chatd.wire", "chatd.engine", "chatd.storage", "chatd.hub", "chatd.config", "chatd.clock"},
    "chatd.gateways": {"chatd.wire", "chatd.engine", "chatd.services", "chatd.config", "chatd.logs"},
    "chatd.http": {"chatd.wire", "chatd.engine", "chatd.services", "chatd.config"},
} | dict.fromkeys(TOP, EVERYTHING)

# Modules that only the layers named may import, however general the table above is.
NATIVE_ADAPTER = "chatd.engine.native"
ONLY_FOR: dict[str, set[str]] = {"chatd._native": {NATIVE_ADAPTER}}
# Concrete stores are chosen at the top; hub, services and gateways know the interface only.
CONCRETE_STORES = ("chatd.storage.sqlite", "chatd.storage.postgresql", "chatd.storage.stores")
KNOWS_CONCRETE_STORES = {"chatd.storage"} | TOP
FORBIDDEN_LIBRARIES: dict[str, set[str]] = {
    "chatd.wire": {"trio", "anyio", "asyncio", "socket", "select", "time", "random", "threading"},
    "chatd.client": {"trio", "asyncio"},
    "chatd.storage": {"socket"},
    "chatd.hub": {"socket"},
    "chatd.services": {"socket"},
}


@cache
def tracked_files() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if listed.returncode == 0:
        names = listed.stdout.decode().split("\0")
        return sorted(ROOT / name for name in names if name and (ROOT / name).is_file())
    return sorted(path for path in ROOT.rglob("*") if path.is_file() and not {".venv", "build"} & set(path.parts))


def sources(*suffixes: str, under: str = "") -> list[Path]:
    return [path for path in tracked_files() if path.suffix in suffixes and name_of(path).startswith(under)]


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def is_generated(path: Path) -> bool:
    with path.open(encoding="utf-8") as file:
        return "generated" in file.readline().lower()


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def module_of(path: Path) -> str:
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    if parts[-1] == "__init__":
        parts.pop()
    return ".".join(parts)


def layer_of(module: str) -> str:
    return ".".join(module.split(".")[:2])


def is_within(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def imports_of(path: Path) -> Iterator[tuple[int, str]]:
    """Every imported module, relative imports resolved, `from package import name` also as package.name."""
    package = module_of(path) if path.name == "__init__.py" else module_of(path).rpartition(".")[0]
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, base]).rstrip(".")
            yield node.lineno, base
            for alias in node.names:
                yield node.lineno, f"{base}.{alias.name}"


def layering_faults(path: Path) -> Iterator[str]:
    module = module_of(path)
    layer = layer_of(module)
    allowed = MAY_IMPORT[layer] | {layer, "chatd.errors"}
    for line, name in imports_of(path):
        where = f"{name_of(path)}:{line}: {module} imports {name}"
        if name.split(".")[0] in FORBIDDEN_LIBRARIES.get(layer, set()):
            yield f"{where}, which this layer must not know"
        if not name.startswith("chatd.") or not layer_exists(layer_of(name)):
            continue
        if layer_of(name) in ONLY_FOR:
            if not any(is_within(module, owner) for owner in ONLY_FOR[layer_of(name)]):
                yield f"{where}, reserved for {', '.join(ONLY_FOR[layer_of(name)])}"
        elif MAY_IMPORT[layer] != EVERYTHING and layer_of(name) not in allowed:
            yield f"{where}, not below it in the layering"
        if name.startswith(CONCRETE_STORES) and layer not in KNOWS_CONCRETE_STORES:
            yield f"{where}, a concrete store"


def layer_exists(layer: str) -> bool:
    return layer in MAY_IMPORT or layer in ONLY_FOR or (ROOT / layer.replace(".", "/")).with_suffix(".py").exists()


def test_every_layer_is_in_the_table() -> None:
    modules = {layer_of(module_of(path)) for path in sources(".py", under="chatd/")} - {"chatd"}
    assert not modules - set(MAY_IMPORT), "add the new layer to MAY_IMPORT and to ARCHITECTURE.md"


def test_layers_import_only_what_is_below_them() -> None:
    paths = [path for path in sources(".py", under="chatd/") if module_of(path) != "chatd"]
    faults = [fault for path in paths if layer_of(module_of(path)) in MAY_IMPORT for fault in layering_faults(path)]
    assert not faults, "\n".join(faults)


def test_nobody_imports_the_source_rooms() -> None:
    faults = [
        f"{name_of(path)}:{line}: imports {name}"
        for path in sources(".py")
        for line, name in imports_of(path)
        if name.split(".")[0] in {"native", "protocol"}
    ]
    assert not faults, "\n".join(faults)


def test_files_are_short() -> None:
    code = sources(".py", ".pyx", ".pxi", ".pxd", ".h", ".c", ".sh")
    lengths = {
        name_of(path): len(path.read_text(encoding="utf-8").splitlines()) for path in code if not is_generated(path)
    }
    long = {name: length for name, length in lengths.items() if length > FILE_LINES_MAX}
    assert long.keys() == LONG_FILES.keys(), f"split, or argue in LONG_FILES: {long}; listed: {list(LONG_FILES)}"


def test_functions_fit_a_screen() -> None:
    long = {
        f"{name_of(path)}:{node.name}"
        for path in sources(".py")
        if not is_generated(path)
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or node.lineno) - node.lineno + 1 > FUNCTION_LINES_MAX
    }
    assert long == LONG_FUNCTIONS.keys(), f"split, or argue in LONG_FUNCTIONS: {long}; listed: {list(LONG_FUNCTIONS)}"


LEFTOVER = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")


@pytest.mark.parametrize("room", ["chatd/", "native/", "protocol/", "bench/", "tests/", "tools/"])
def test_no_leftovers(room: str) -> None:
    faults = [
        f"{name_of(path)}:{number}: {line.strip()}"
        for path in sources(".py", ".pyx", ".pxi", ".pxd", ".h", ".c", ".sh", under=room)
        if path != Path(__file__).resolve()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if LEFTOVER.search(line)
    ]
    assert not faults, "\n".join(faults)


def is_unbounded(node: ast.Call) -> bool:
    """A deque without maxlen, a queue without size, a memory channel of math.inf."""
    called = ast.unparse(node.func).rpartition(".")[2].partition("[")[0]
    if called == "deque":
        return len(node.args) < 2 and not any(keyword.arg == "maxlen" for keyword in node.keywords)
    if called in {"Queue", "LifoQueue", "PriorityQueue", "SimpleQueue"}:
        return not node.args and not node.keywords
    if called in {"open_memory_channel", "create_memory_object_stream"}:
        return any("inf" in ast.unparse(argument) for argument in [*node.args, *(k.value for k in node.keywords)])
    return False


def test_every_queue_has_a_bound() -> None:
    faults = [
        f"{name_of(path)}:{node.lineno}: {ast.unparse(node)}"
        for path in sources(".py", under="chatd/")
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Call) and is_unbounded(node)
    ]
    assert not faults, "give it a bound, an owner and a behaviour when full:\n" + "\n".join(faults)


# Words in documents that look like paths and are not.
NOT_PATHS = {"chatd/1", "bench/results/SCENARIO-DATE-COMMIT.json"}


def test_paths_named_in_documents_exist() -> None:
    rooms = {path.name for path in ROOT.iterdir() if path.is_dir()} - {"build"}
    missing = [
        f"{name_of(path)}: {word}"
        for path in sources(".md")
        for word in re.findall(r"`([\w./-]+/[\w./-]*)`", path.read_text(encoding="utf-8"))
        if word.split("/")[0] in rooms and word not in NOT_PATHS
        if not ((ROOT / word).exists() or (path.parent / word).exists())
    ]
    assert missing == []


def test_links_between_documents_lead_somewhere() -> None:
    broken = [
        f"{name_of(path)}: {target}"
        for path in sources(".md")
        for target in re.findall(r"\]\(([^)#]+)", path.read_text(encoding="utf-8"))
        if "://" not in target and not (path.parent / target).exists()
    ]
    assert broken == []
