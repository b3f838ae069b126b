#!/usr/bin/env bash
# Prepare a checkout. Called by the Makefile; every step may run again and then takes no time.
#   tools/setup.sh packages   install the Debian packages that building needs
#   tools/setup.sh services   install the peers that integration tests talk to
#   tools/setup.sh venv       create .venv and install requirements.lock into it
#   tools/setup.sh link       install chatd itself into .venv, editable
#   tools/setup.sh native     compile chatd._native into chatd/
#   tools/setup.sh sanitize   compile it with ASan and UBSan into build/sanitize/, beside the normal one
#   tools/setup.sh sabotage   compile it with deliberate faults into build/sabotage/, likewise
#   tools/setup.sh coverage   compile it with counters for gcov into build/coverage/
#   tools/setup.sh lock       write requirements.lock anew from pyproject.toml
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '== %s\n' "$*" >&2; }
die() { printf 'setup: %s\n' "$*" >&2; exit 1; }

# One setup step at a time in a checkout: two of them would compile over each other.
mkdir -p build
exec 9>build/.setup-lock
flock 9

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"
    elif command -v sudo >/dev/null; then sudo "$@"
    else return 1
    fi
}

install_debian() {
    command -v apt-get >/dev/null || { say "no apt-get here: please install the equivalent of: $*"; return 1; }
    say "installing Debian packages: $*"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq update >/dev/null ||
        say "apt-get update did not succeed; trying with the package lists at hand"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "$@" >/dev/null || {
        say "could not install them (neither root nor sudo, or the package manager refused). Please install: $*"
        return 1
    }
}

# A Python is usable when it is new enough, can make environments and has its C headers.
usable_python() {
    "$1" - 2>/dev/null <<'PY'
import ensurepip, pathlib, sys, sysconfig, venv
header = pathlib.Path(sysconfig.get_path("include")) / "Python.h"
sys.exit(not (sys.version_info >= (3, 11) and header.exists()))
PY
}

find_python() {
    local name
    for name in ${PYTHON:-} python3.11 python3.12 python3.13 python3; do
        command -v "$name" >/dev/null && usable_python "$name" && { command -v "$name"; return 0; }
    done
    return 1
}

step_packages() {
    local missing=()
    command -v gcc >/dev/null || missing+=(gcc libc6-dev)
    find_python >/dev/null || missing+=(python3 python3-venv python3-dev)
    [ "${#missing[@]}" = 0 ] || install_debian "${missing[@]}" || die "cannot build without: ${missing[*]}"
    find_python >/dev/null || die "no Python >= 3.11 with venv and C headers on PATH (set PYTHON=/path/to/python)"
}

step_services() {
    local missing=() program
    # Debian keeps daemons in /usr/sbin, which is not on everybody's PATH.
    PATH="$PATH:/usr/sbin:/usr/local/sbin"
    for program in nats-server redis-server mosquitto faketime strace; do
        command -v "$program" >/dev/null || missing+=("$program")
    done
    compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null || missing+=(postgresql)
    [ "${#missing[@]}" = 0 ] || install_debian "${missing[@]}" || say "tests that need these programs will be skipped"
}

step_venv() {
    step_packages
    if ! .venv/bin/python -c '' 2>/dev/null; then
        say "creating .venv with $(find_python)"
        rm -rf .venv
        "$(find_python)" -m venv .venv
    fi
    say "installing requirements.lock"
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements.lock
}

step_link() {
    CHATD_PURE=1 .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
}

# Forced, because a change of flags (CHATD_DEBUG) is invisible to time stamps, and the one extension is one file anyway.
step_native() {
    say "compiling chatd._native${CHATD_DEBUG:+ (debug)}"
    .venv/bin/python setup.py -q build_ext --inplace --force >build/native.log 2>&1 || {
        cat build/native.log >&2
        die "chatd._native did not compile; the messages above are also in build/native.log"
    }
    grep -A6 -E 'warning:' build/native.log >&2 || true
}

# Another build of the extension lies in a tree of its own, build/NAME, that links to every other file of the package.
build_beside() {
    local root=build/$1 variable=$2 entry
    mkdir -p "$root/lib/chatd"
    say "compiling chatd._native ($1)"
    env "$variable=1" CHATD_BUILD_DIR="$root/cython" .venv/bin/python setup.py -q build_ext \
        --build-lib "$root/lib" --build-temp "$root/temp" >"$root/native.log" 2>&1 || {
        cat "$root/native.log" >&2
        die "chatd._native ($1) did not compile; see $root/native.log"
    }
    find "$root/lib/chatd" -maxdepth 1 -type l -delete
    for entry in chatd/*; do
        case "$entry" in *.so | */__pycache__) ;; *) ln -s "$PWD/$entry" "$root/lib/$entry" ;; esac
    done
}

step_sanitize() { build_beside sanitize CHATD_SANITIZE; }
step_sabotage() { build_beside sabotage CHATD_SABOTAGES; }
step_coverage() { build_beside coverage CHATD_COVERAGE; }

step_lock() {
    local scratch
    scratch=$(mktemp -d)
    trap 'rm -rf "$scratch"' EXIT
    "$(find_python)" -m venv "$scratch/venv"
    CHATD_PURE=1 "$scratch/venv/bin/python" -m pip install --quiet --disable-pip-version-check "$PWD[dev]"
    {
        echo "# Every package of a development environment, pinned. Made by \`tools/setup.sh lock\` from pyproject.toml, extra dev."
        "$scratch/venv/bin/python" -m pip freeze --all --exclude chatd --exclude pip --exclude wheel
    } >requirements.lock
}

case "${1:-}" in
    packages | services | venv | link | native | sanitize | sabotage | coverage | lock) "step_$1" ;;
    *) sed -n '2,11p' "$0"; exit 2 ;;
esac
