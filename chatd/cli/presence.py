"""`chatd presence`: whether others are there, and who may see whether oneself is."""

import json
from typing import Annotated

import anyio
import typer

from chatd.cli.login import DEFAULT_DATA, As, Ca, Data, Json, Login, Server, Token, run
from chatd.cli.show import local_time, safe
from chatd.client import Presence
from chatd.wire.schema import Audience, PresenceState

app = typer.Typer(add_completion=False)

ANSWER_WITHIN_S = 10.0
AUDIENCES = {audience.name.lower(): audience for audience in Audience}


@app.command(help="Print whether users are online or away, or when they were last seen.")
def presence(
    user: As,
    names: Annotated[list[str] | None, typer.Argument(metavar="NAME...", help="The users to look at.")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Go on, and print every change.")] = False,
    show_to: Annotated[str | None, typer.Option("--show-to", help="Let everyone, contacts or nobody see you.")] = None,
    as_json: Json = False,
    server: Server = None,
    data: Data = DEFAULT_DATA,
    token: Token = None,
    tls: Ca = None,
) -> None:
    if show_to is not None and show_to not in AUDIENCES:
        raise typer.BadParameter(f"--show-to takes {' or '.join(AUDIENCES)}, not {show_to!r}")
    if not names and show_to is None:
        raise typer.BadParameter("name the users to look at, or use --show-to")
    login = Login("presence", user, server, data, token, None, tls)

    async def main() -> None:
        async with login.client() as client:
            client.set_presence(PresenceState.INVISIBLE)  # looking is not being there
            if show_to is not None:
                await client.presence_audience(AUDIENCES[show_to])
            known = {found.id: found.name for found in (await client.resolve(names or [])).values()}
            for missing in set(names or []) - set(known.values()):
                typer.echo(f"chatd: there is no user {safe(missing)}", err=True)
            unseen = set(known)
            client.follow_presence(*known)
            with anyio.move_on_after(None if watch else ANSWER_WITHIN_S):
                async for signal in client.signals():
                    if isinstance(signal, Presence):
                        typer.echo(line(signal, known[signal.user], as_json))
                        unseen.discard(signal.user)
                    if not unseen and not watch:
                        return

    run(main, login)


def line(seen: Presence, name: str, as_json: bool) -> str:
    state = seen.state.name.lower()
    if as_json:
        shown = {"user": seen.user, "name": name, "state": state, "last_seen_ms": seen.last_seen_ms}
        return json.dumps(shown, ensure_ascii=False)
    since = f", last seen {local_time(seen.last_seen_ms)}" if seen.last_seen_ms else ""
    return f"{safe(name)}: {state}{since}"
