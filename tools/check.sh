#!/usr/bin/env bash
# Linters and types, in the order in which they are quickest to fail. Changes nothing.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=.venv/bin
PATH="$PWD/$bin:$PATH"      # cython-lint looks for pycodestyle there
step() { printf '== %s\n' "$1"; shift; "$@"; }

step "ruff check" $bin/ruff check --quiet .
step "ruff format" $bin/ruff format --check --quiet .
step "cython-lint" $bin/cython-lint native
# What the generated C cannot hold under, the hand-written C does.
for header in native/*.h native/common/*.h; do
    step "gcc $header" gcc -x c -std=gnu11 -D_GNU_SOURCE -fsyntax-only -Wall -Wextra -Wconversion -Wshadow -Werror \
        -Wno-unused-function "$header"
done
step "mypy" $bin/mypy --no-error-summary
step "stubtest" $bin/stubtest chatd._native --mypy-config-file pyproject.toml
if [ -f protocol/generate.py ]; then
    step "generated files" $bin/python protocol/generate.py --check
fi
