"""schema.toml → chatd.lua, a dissector for Wireshark."""

from emit_c import COMMAND
from model import Schema


def dissector(schema: Schema) -> str:
    return f"-- {COMMAND}\n"
