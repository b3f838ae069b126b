"""chatd_schema.h compiles where SDKs live: strict C99, with and without its tables."""

import shutil
import subprocess

import pytest
from support import vectors

from chatd.wire.schema import Op

PROGRAM = """
#include "chatd_schema.h"
#include <stdio.h>
int main(void) {
#ifdef CHATD_SCHEMA_TABLES
    printf("%s %d\\n", chatd_ops[CHATD_OP_SEND].name, chatd_closes[CHATD_CLOSE_SLOW].then);
    return chatd_kinds[CHATD_KIND_TEXT].message && chatd_errors[CHATD_ERR_BUSY].retryable ? 0 : 1;
#else
    printf("%d\\n", CHATD_OP_SEND);
    return CHATD_LIMIT_TICKET_BYTES_MAX == 64 ? 0 : 1;
#endif
}
"""


@pytest.mark.parametrize(("flags", "printed"), [([], str(int(Op.SEND))), (["-DCHATD_SCHEMA_TABLES"], "SEND 1")])
def test_the_header_compiles(tmp_path: object, flags: list[str], printed: str) -> None:
    compiler = shutil.which("cc") or shutil.which("gcc")
    assert compiler, "a C compiler is needed, as for the engine"
    program = f"{tmp_path}/program"
    warnings = ["-std=c99", "-Wall", "-Wextra", "-Wconversion", "-pedantic", "-Werror"]
    command = [compiler, *warnings, *flags, "-I", str(vectors.ROOT / "protocol"), "-x", "c", "-", "-o", program]
    subprocess.run(command, input=PROGRAM, text=True, check=True, timeout=60)
    done = subprocess.run([program], capture_output=True, text=True, check=True, timeout=10)
    assert done.stdout.strip() == printed
