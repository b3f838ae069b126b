"""`chatd contact`: who knows whom, who is blocked, who may write first."""

from typing import Annotated

import typer

from chatd.cli.action import action, user_id
from chatd.cli.group import Name
from chatd.client import Client
from chatd.client.people import Profile, RelationInfo

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Contacts, blocks and profiles.")


@action(app, "contact", "List contacts, requests and blocks.", "list")
async def listed(client: Client) -> list[RelationInfo]:
    return await client.relations()


@action(app, "contact", "Ask somebody to be a contact, or accept at once who has asked.")
async def ask(
    client: Client, who: Name, text: Annotated[str, typer.Option("--text", help="A word to that user.")] = ""
) -> None:
    await client.ask_contact(await user_id(client, who), text)


@action(app, "contact", "Accept who has asked.")
async def accept(client: Client, who: Name) -> None:
    await client.answer_contact(await user_id(client, who), accept=True)


@action(app, "contact", "Refuse who has asked.")
async def refuse(client: Client, who: Name) -> None:
    await client.answer_contact(await user_id(client, who), accept=False)


@action(app, "contact", "Be contacts no longer.")
async def remove(client: Client, who: Name) -> None:
    await client.remove_contact(await user_id(client, who))


@action(app, "contact", "Block a user, who is not told.")
async def block(client: Client, who: Name) -> None:
    await client.block(await user_id(client, who))


@action(app, "contact", "End a block.")
async def unblock(client: Client, who: Name) -> None:
    await client.block(await user_id(client, who), blocked=False)


@action(app, "contact", "Show a profile.")
async def show(client: Client, who: Name) -> Profile:
    return await client.profile(await user_id(client, who))


@action(app, "contact", "Set the own profile, and who may write first.", "set-profile")
async def set_profile(
    client: Client,
    display: Annotated[str | None, typer.Option("--display", help="The name that others see.")] = None,
    about: Annotated[str | None, typer.Option("--about", help="A few words.")] = None,
    avatar: Annotated[str | None, typer.Option("--avatar", help="A reference to a picture.")] = None,
    contacts_only: Annotated[
        bool | None, typer.Option("--contacts-only/--everybody", help="Who may write first.")
    ] = None,
) -> None:
    await client.set_profile(display_name=display, about=about, avatar=avatar, contacts_only=contacts_only)


@action(app, "contact", "A guest becomes a registered user and keeps everything. Asks for a password.")
async def upgrade(client: Client, name: Annotated[str, typer.Argument(help="The name to have.")]) -> str:
    password = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    await client.upgrade_guest(name, str(password))
    return f"you are {name} now"
