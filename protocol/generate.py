"""Write every file that follows from schema.toml, or say which one is stale.

    python protocol/generate.py            write
    python protocol/generate.py --check    write nothing; exit 1 and name the files that are not what they should be

The emitters beside this file turn the loaded schema into text; this one knows where the texts go. `make wire` runs it.
"""

import argparse
import sys
from pathlib import Path

import emit_c
import emit_corpus
import emit_docs
import emit_lua
import emit_python
from model import Schema, load

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "protocol/README.md"
CORPUS = ROOT / "protocol/corpus"


def outputs(schema: Schema) -> dict[Path, bytes]:
    """Path and whole content of every generated file."""
    texts = {
        ROOT / "native/common/schema.pxi": emit_c.pxi(schema),
        ROOT / "protocol/chatd_schema.h": emit_c.header(schema),
        ROOT / "chatd/wire/schema.py": emit_python.module(schema),
        ROOT / "protocol/schema.json": emit_docs.as_json(schema),
        ROOT / "protocol/chatd.lua": emit_lua.dissector(schema),
        README: emit_docs.fill_markers(schema, README.read_text(encoding="utf-8")),
    }
    seeds = emit_corpus.corpus(ROOT / "protocol/vectors")
    return {path: text.encode() for path, text in texts.items()} | {CORPUS / name: seeds[name] for name in seeds}


def main() -> int:
    parser = argparse.ArgumentParser(description="Generate what follows from protocol/schema.toml.")
    parser.add_argument("--check", action="store_true", help="write nothing, fail when a file is stale")
    arguments = parser.parse_args()
    contents = outputs(load(ROOT / "protocol/schema.toml"))
    stale = [path for path, content in contents.items() if not path.exists() or path.read_bytes() != content]
    surplus = [path for path in CORPUS.glob("*") if path not in contents]
    for path in stale + surplus:
        name = path.relative_to(ROOT).as_posix()
        if arguments.check:
            print(f"{name} is stale: run `make wire`", file=sys.stderr)
        elif path in contents:
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(contents[path])
            print(f"wrote {name}")
        else:
            path.unlink()
            print(f"removed {name}")
    return 1 if arguments.check and stale + surplus else 0


if __name__ == "__main__":
    sys.exit(main())
