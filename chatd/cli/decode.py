"""`chatd decode`: frames in words."""

import sys
from typing import Annotated

import typer

from chatd.errors import PeerProtocolError
from chatd.wire import Framer
from chatd.wire.explain import explain, parse_hex

app = typer.Typer(add_completion=False)


@app.command(help="Explain frames given in hexadecimal, broken ones too. Exits with 1 when a clause is broken.")
def decode(
    text: Annotated[list[str], typer.Argument(metavar="HEX", help="Blanks, colons and 0x are ignored; - reads stdin.")],
) -> None:
    given = sys.stdin.read() if text == ["-"] else " ".join(text)
    try:
        data = parse_hex(given)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    for line in explain(data):
        typer.echo(line)
    if not is_sound(data):
        raise typer.Exit(1)


def is_sound(data: bytes) -> bool:
    """Whole frames only, every clause kept, and nothing unknown that must be understood."""
    framer = Framer()
    try:
        while frames := framer.feed(data):
            data = b""
            if any(frame.unknown_extension or frame.malformed_extension for frame in frames) or any(
                frame.must_be_understood for frame in frames if not frame.known
            ):
                return False
    except PeerProtocolError:
        return False
    return framer.partial_bytes == 0
