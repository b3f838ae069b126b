"""`chatd search`: messages by their words."""

import json
from typing import Annotated

import typer

from chatd.cli.login import DEFAULT_DATA, As, Ca, Data, Json, Login, Server, StateFile, Token, run
from chatd.cli.show import KIND_NAMES, local_time, moment, safe
from chatd.client import Client, Hit
from chatd.client.history import HITS_PER_PAGE_MAX

app = typer.Typer(add_completion=False)
INCOMPLETE = "chatd: the server's index is being made; older messages may be missing"


@app.command(help="Print messages that have all the words, newest first. Only what this user may read is found.")
def search(
    user: As,
    words: Annotated[
        list[str] | None, typer.Argument(help="Chinese needs no spaces: any part of a sentence is found.")
    ] = None,
    cid: Annotated[int, typer.Option("--in", min=0, metavar="CID", help="In this conversation only.")] = 0,
    sender: Annotated[str, typer.Option("--from", metavar="USER", help="From this user only.")] = "",
    since: Annotated[str, typer.Option("--since", metavar="TIME", help="Not before this date or time.")] = "",
    until: Annotated[str, typer.Option("--until", metavar="TIME", help="Not after it.")] = "",
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000, help="So many of the newest.")] = 20,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Instead, for administrators: have the server make its index anew.")
    ] = False,
    as_json: Json = False,
    server: Server = None,
    data: Data = DEFAULT_DATA,
    token: Token = None,
    state: StateFile = None,
    tls: Ca = None,
) -> None:
    if bool(words) == rebuild:
        raise typer.BadParameter("words to look for, or --rebuild")
    login = Login("search", user, server, data, token, state, tls)
    since_ms, until_ms = (moment(text) if text else 0 for text in (since, until))

    async def main() -> None:
        async with login.client() as client:
            if rebuild:
                await client.rebuild_search()
                return
            by = (await client.user_named(sender)).id if sender else 0
            left, cursor = limit, b""
            while left:
                page = await client.search_page(
                    " ".join(words or ()),
                    cid=cid,
                    sender=by,
                    since_ms=since_ms,
                    until_ms=until_ms,
                    limit=min(left, HITS_PER_PAGE_MAX),
                    cursor=cursor,
                )
                if not page.complete:
                    typer.echo(INCOMPLETE, err=True)
                await show(client, page.hits, as_json)
                left, cursor = left - len(page.hits), page.cursor
                if not cursor:
                    return

    run(main, login)


async def show(client: Client, hits: list[Hit], as_json: bool) -> None:
    if as_json:
        for hit in hits:
            typer.echo(json.dumps(hit_json(hit), ensure_ascii=False))
        return
    names = {ident: user.name for ident, user in (await client.users(sorted({hit.sender for hit in hits}))).items()}
    for hit in hits:
        pieces = (typer.style(safe(piece), bold=True) if match else safe(piece) for piece, match in hit.pieces())
        name = safe(names.get(hit.sender, f"user {hit.sender}"))
        typer.echo(f"{local_time(hit.time_ms)}  {hit.cid}:{hit.seq}  {name}: {''.join(pieces)}")


def hit_json(hit: Hit) -> dict[str, object]:
    shown = {"cid": hit.cid, "seq": hit.seq, "sender": hit.sender, "time_ms": hit.time_ms}
    return {**shown, "kind": KIND_NAMES.get(hit.kind, str(hit.kind)), "excerpt": hit.excerpt, "marks": hit.marks}
