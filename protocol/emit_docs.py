"""schema.toml → schema.json (for generators of other languages) and the tables of README.md between their markers."""

import json
import re

from emit_c import COMMAND
from model import Schema


def as_json(schema: Schema) -> str:
    """The whole schema as JSON, field lists as they stand in schema.toml."""
    return json.dumps({"generated": COMMAND} | schema.raw, indent=1, ensure_ascii=False) + "\n"


def fill_markers(schema: Schema, text: str) -> str:
    """Replace what stands between `<!-- table NAME -->` and `<!-- end -->` by the table of that name."""

    def replace(match: re.Match[str]) -> str:
        return f"{match[1]}\n{TABLES[match[2]](schema)}\n{match[3]}"

    return re.sub(r"(<!-- table (\w+) -->)\n.*?(<!-- end -->)", replace, text, flags=re.DOTALL)


TABLES = {}
