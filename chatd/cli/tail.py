"""`chatd tail`: every event of a user, each line once, however often it is stopped and started."""

import json
import sys
from typing import Annotated

import anyio
import typer

from chatd.cli.login import DEFAULT_DATA, As, Ca, Data, Json, Login, Server, StateFile, Token, run
from chatd.cli.show import event_json, event_text, local_time, safe, users_in
from chatd.client import Client, Event, Gap, Settings, Streaming, Update
from chatd.errors import ChatdError
from chatd.wire.schema import Topic

app = typer.Typer(add_completion=False)
NAMES_MAX = 10_000


@app.command(
    help="Print events as they come, one per line and each once: what was printed before is not printed again."
)
def tail(
    user: As,
    as_json: Json = False,
    count: Annotated[int, typer.Option("--count", min=0, help="Stop after so many lines; 0: never.")] = 0,
    idle: Annotated[
        float, typer.Option("--idle", min=0, help="Stop when nothing came for so many seconds; 0: never.")
    ] = 0,
    start: Annotated[
        str, typer.Option("--from", help="At the first run: from the beginning, or from now.")
    ] = "beginning",
    server: Server = None,
    data: Data = DEFAULT_DATA,
    token: Token = None,
    state: StateFile = None,
    tls: Ca = None,
    live: Annotated[bool, typer.Option("--live", help="Show live streams, too, while they are written.")] = False,
) -> None:
    if start not in {"beginning", "now"}:
        raise typer.BadParameter("--from takes beginning or now")
    login = Login("tail", user, server, data, token, state, tls)

    async def main() -> None:
        async with login.client(settings=Settings(start=start)) as client:
            printer = Printer(client, as_json)
            if not live:
                await printer.events(count, idle)
                return
            try:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(printer.streams)
                    await printer.events(count, idle)
                    tasks.cancel_scope.cancel()
            except BaseExceptionGroup as group:
                raise first_of(group) from None

    run(main, login)


class Printer:
    """Lines to standard output, as soon as there is something to say."""

    def __init__(self, client: Client, as_json: bool) -> None:
        self._client = client
        self._as_json = as_json
        self._names: dict[int, str] = {}
        self._followed: set[int] | None = None

    async def events(self, count: int, idle: float) -> None:
        printed = 0
        events = self._client.events(auto=False)
        while not count or printed < count:
            update: Update | None = None
            with anyio.move_on_after(idle or None):
                update = await anext(events)
            if update is None:
                return
            if isinstance(update, Event) and not self._as_json:
                await learn_names(self._client, update, self._names)
            # Printed, then confirmed: a kill between the two repeats this one line, the other order would lose it.
            self._print(update_json(update) if self._as_json else update_text(update, self._names))
            if isinstance(update, Event):
                self._follow(update.cid)
                update.done()
            printed += 1

    async def streams(self) -> None:
        """What is written live in any conversation, a line for each piece; not counted, and not remembered."""
        self._followed = set()
        await self._client.synced(timeout_s=float("inf"))
        for overview in self._client.conversations():
            self._follow(overview.cid)
        async for signal in self._client.signals():
            if isinstance(signal, Streaming) and (signal.data or signal.over):
                if not self._as_json:
                    await learn_users(self._client, {signal.sender}, self._names)
                self._print(stream_json(signal) if self._as_json else stream_text(signal, self._names))

    def _follow(self, cid: int) -> None:
        if self._followed is not None and cid not in self._followed:
            self._followed.add(cid)
            self._client.follow(cid, Topic.STREAMS)

    def _print(self, line: str) -> None:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


def first_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first reason, however deep the task groups nested it."""
    first = group.exceptions[0]
    return first_of(first) if isinstance(first, BaseExceptionGroup) else first


async def learn_names(client: Client, event: Event, names: dict[int, str]) -> None:
    await learn_users(client, users_in(event), names)


async def learn_users(client: Client, users: set[int], names: dict[int, str]) -> None:
    unknown = [user for user in users if user and user not in names]
    if not unknown:
        return
    try:
        found = await client.users(unknown)
    except ChatdError:
        return
    if len(names) > NAMES_MAX:
        names.clear()
    names.update({user.id: user.name for user in found.values()})


def update_json(update: Update) -> str:
    if isinstance(update, Event):
        return json.dumps({"type": "event", **event_json(update)}, ensure_ascii=False)
    if isinstance(update, Gap):
        return json.dumps({"type": "gap", "cid": update.cid, "from_seq": update.from_seq, "to_seq": update.to_seq})
    return json.dumps({"type": "reset", "log_epoch": update.log_epoch})


def stream_json(piece: Streaming) -> str:
    shown = {"type": "stream", "cid": piece.cid, "stream": piece.stream, "sender": piece.sender, "over": piece.over}
    text = piece.data.decode("utf-8", "backslashreplace")
    return json.dumps({**shown, "begin": piece.begin, "text": text}, ensure_ascii=False)


def stream_text(piece: Streaming, names: dict[int, str]) -> str:
    sender = safe(names.get(piece.sender, f"user {piece.sender}"))
    text = safe(piece.data.decode("utf-8", "backslashreplace"))
    return f"{piece.cid}:…  {sender} {'has ended the stream' if piece.over else f'… {text}'}"


def update_text(update: Update, names: dict[int, str]) -> str:
    if isinstance(update, Event):
        sender = safe(names.get(update.sender, f"user {update.sender}"))
        text = safe(event_text(update, names))
        return f"{update.cid}:{update.seq}  {local_time(update.time_ms)}  {sender}: {text}"
    if isinstance(update, Gap):
        return f"{update.cid}:{update.from_seq}-{update.to_seq}  (not readable any more)"
    return "(the server was restored from a backup: everything is read anew)"
