"""`chatd why`: what happened to one message on its way to one user."""

import json
from typing import Annotated

import typer

from chatd.cli.login import DEFAULT_DATA, Ca, Data, Json, Place, Server, Token, administrator, run
from chatd.cli.show import local_time
from chatd.client.methods import Hop

app = typer.Typer(add_completion=False)


@app.command(help="Tell hop by hop what happened to an event: accepted, committed, queued, written, acked, LAG ...")
def why(
    event: Place,
    user: Annotated[str, typer.Option("--user", help="On its way to this user.")],
    as_json: Json = False,
    server: Server = None,
    data: Data = DEFAULT_DATA,
    token: Token = None,
    tls: Ca = None,
) -> None:
    async def main() -> tuple[list[Hop], bool]:
        async with administrator(server, data, token, tls) as client:
            reader = await client.user_named(user)
            return await client.admin_why(*event, reader.id)

    hops, aged_out = run(main)
    for hop in hops:
        if as_json:
            typer.echo(json.dumps({"time_ms": hop.time_ms, "hop": hop.hop, "detail": hop.detail}, ensure_ascii=False))
        else:
            when = f"{local_time(hop.time_ms)}.{hop.time_ms % 1000:03d}" if hop.time_ms else " " * 23
            typer.echo(f"{when}  {hop.hop:<12}  {hop.detail}".rstrip())
    if aged_out:
        text = "older hops have aged out of the ledger"
        typer.echo(json.dumps({"aged_out": True}) if as_json else text)
    elif not hops and not as_json:
        typer.echo("nothing is known of it")
