"""`chatd tail`: every event of a user, each line once, however often it is stopped and started."""

import json
import sys
from typing import Annotated

import anyio
import typer

from chatd.cli.login import DEFAULT_DATA, As, Ca, Data, Json, Login, Server, StateFile, Token, run
from chatd.cli.show import event_json, event_text, local_time, safe, users_in
from chatd.client import Client, Event, Gap, Settings, Update
from chatd.errors import ChatdError

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
) -> None:
    if start not in {"beginning", "now"}:
        raise typer.BadParameter("--from takes beginning or now")
    login = Login("tail", user, server, data, token, state, tls)

    async def main() -> None:
        async with login.client(settings=Settings(start=start)) as client:
            names: dict[int, str] = {}
            printed = 0
            events = client.events(auto=False)
            while not count or printed < count:
                update: Update | None = None
                with anyio.move_on_after(idle or None):
                    update = await anext(events)
                if update is None:
                    return
                if isinstance(update, Event) and not as_json:
                    await learn_names(client, update, names)
                line = update_json(update) if as_json else update_text(update, names)
                sys.stdout.write(line + "\n")
                # Printed, then confirmed: a kill between the two repeats this one line, the other order would lose it.
                sys.stdout.flush()
                if isinstance(update, Event):
                    update.done()
                printed += 1

    run(main, login)


async def learn_names(client: Client, event: Event, names: dict[int, str]) -> None:
    unknown = [user for user in users_in(event) if user and user not in names]
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


def update_text(update: Update, names: dict[int, str]) -> str:
    if isinstance(update, Event):
        sender = safe(names.get(update.sender, f"user {update.sender}"))
        text = safe(event_text(update, names))
        return f"{update.cid}:{update.seq}  {local_time(update.time_ms)}  {sender}: {text}"
    if isinstance(update, Gap):
        return f"{update.cid}:{update.from_seq}-{update.to_seq}  (not readable any more)"
    return "(the server was restored from a backup: everything is read anew)"
