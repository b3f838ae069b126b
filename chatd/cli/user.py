"""`chatd user`: the administrator's side of accounts."""

import json
from typing import Annotated

import typer

from chatd.cli.login import DEFAULT_DATA, Ca, Data, Json, Login, Server, Token, administrator, run
from chatd.cli.show import local_time, safe
from chatd.client.methods import Account

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Users: add, list, revoke, password.")

Name = Annotated[str, typer.Argument(help="The user's name.")]


@app.command(help="Make a user and print its id.")
def add(
    name: Name,
    display: Annotated[str, typer.Option("--display", help="The name that others see; default: the name.")] = "",
    with_password: Annotated[bool, typer.Option("--password", help="Ask for a password.")] = False,
    admin: Annotated[bool, typer.Option("--admin", help="Make an administrator.")] = False,
    as_json: Json = False,
    server: Server = None,
    data: Data = DEFAULT_DATA,
    token: Token = None,
    tls: Ca = None,
) -> None:
    secret = ask_password("Password") if with_password else None

    async def main() -> int:
        async with administrator(server, data, token, tls) as client:
            return await client.admin_create_user(name, display, secret, admin)

    ident = run(main)
    typer.echo(json.dumps({"id": ident, "name": name}) if as_json else f"{ident}")


@app.command("list", help="List all users.")
def listed(
    as_json: Json = False,
    server: Server = None,
    data: Data = DEFAULT_DATA,
    token: Token = None,
    tls: Ca = None,
) -> None:
    async def main() -> list[Account]:
        async with administrator(server, data, token, tls) as client:
            return await client.admin_users()

    for account in run(main):
        if as_json:
            shown = {"id": account.id, "name": account.name, "display_name": account.display_name}
            typer.echo(
                json.dumps({**shown, "flags": account.flags, "created_ms": account.created_ms}, ensure_ascii=False)
            )
        else:
            created = local_time(account.created_ms)
            typer.echo(f"{account.id:>8}  {created}  {safe(account.name):<24}  {safe(account.display_name)}")


@app.command(help="End every token, ticket and session of a user, now.")
def revoke(
    name: Name,
    server: Server = None,
    data: Data = DEFAULT_DATA,
    token: Token = None,
    tls: Ca = None,
) -> None:
    async def main() -> None:
        async with administrator(server, data, token, tls) as client:
            await client.admin_revoke_user((await client.user_named(name)).id)

    run(main)
    typer.echo(f"{name}: all tokens, tickets and sessions have ended")


@app.command(help="Set a user's password, as that user. Asks for both; the old one is empty when there is none.")
def password(
    name: Name,
    server: Server = None,
    data: Data = DEFAULT_DATA,
    token: Token = None,
    tls: Ca = None,
) -> None:
    old = typer.prompt("Old password", default="", hide_input=True, show_default=False) or None
    new = ask_password("New password")
    login = Login("password", name, server, data, token, None, tls)

    async def main() -> None:
        async with login.client() as client:
            await client.set_password(old, new)

    run(main, login)
    typer.echo(f"{name}: the password is set")


def ask_password(prompt: str) -> str:
    return str(typer.prompt(prompt, hide_input=True, confirmation_prompt=True))
