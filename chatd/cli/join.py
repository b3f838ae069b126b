"""`chatd join`: into a conversation by a link or by its public name."""

from typing import Annotated

import typer

from chatd.cli.action import action, token_of
from chatd.client import Client
from chatd.errors import ChatdError

app = typer.Typer(add_completion=False)


@action(app, "join", "Join a conversation and print its cid.")
async def join(
    client: Client,
    link: Annotated[str, typer.Argument(help="The link, as `chatd invite create` printed it.")] = "",
    public: Annotated[str, typer.Option("--public", metavar="NAME", help="Instead: by its public name.")] = "",
    text: Annotated[str, typer.Option("--text", help="For those who have to accept.")] = "",
) -> int | str:
    if bool(link) == bool(public):
        raise ChatdError("say where: a link, or --public NAME")
    cid = await (client.join_public(public, text) if public else client.join(token_of(link), text))
    return cid or "asked: you are in when somebody accepts"
