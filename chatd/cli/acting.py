"""What the commands about one message share: `reply`, `edit`, `recall`, `react`, `pin` and `forward` are one device."""

import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import typer

from chatd.cli.login import Login, run
from chatd.client import Client, NotFoundError, Sent
from chatd.errors import ChatdError
from chatd.wire.schema import ErrorCode

Who = tuple[str, str | None, Path, str | None, Path | None, str | None]
"""user, server, data, token, state, tls: as Login takes them."""


def act(work: Callable[[Client], Awaitable[Sent]], who: Who, timeout: float, as_json: bool) -> None:
    """Print the place of the event that work sends, once it is durable."""
    login = Login("act", *who)

    async def main() -> Sent:
        async with login.client(wait_s=timeout) as client:
            with anyio.move_on_after(timeout):
                return await work(client)
        raise ChatdError(f"not acknowledged within {timeout:g} s: it stays queued and leaves with the next command")

    sent = run(main, login)
    if as_json:
        typer.echo(json.dumps({"cid": sent.cid, "seq": sent.seq, "time_ms": sent.time_ms, "dup": sent.dup}))
    else:
        typer.echo(f"{sent.cid}:{sent.seq}")


async def forwarded(client: Client, cid: int, seq: int, to_cid: int) -> Sent:
    events = (await client.history(cid, seq, seq, 1)).events
    if not events or events[0].tombstone:
        raise NotFoundError(ErrorCode.NOT_FOUND, f"there is no message {cid}:{seq} for you")
    return await client.forward(events[0], to_cid)
