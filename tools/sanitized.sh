#!/usr/bin/env bash
# Run .venv's Python with the sanitized engine of build/sanitize (made by `tools/setup.sh sanitize`) in front of the normal one.
# detect_leaks=0: the interpreter itself leaks at exit; leaks of ours are counted by tests. PYTHONMALLOC=malloc: every Python
# object gets red zones too.
set -euo pipefail
cd "$(dirname "$0")/.."
# The interpreter was not built with ASan, so its runtime has to come first; both runtimes only for Python itself.
export PYTHONPATH="$PWD/build/sanitize/lib:$PWD" PYTHONMALLOC=malloc
export ASAN_OPTIONS=detect_leaks=0:abort_on_error=1:allocator_may_return_null=1 UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1
export LD_PRELOAD="$(gcc -print-file-name=libasan.so) $(gcc -print-file-name=libubsan.so)"
exec .venv/bin/python "$@"
