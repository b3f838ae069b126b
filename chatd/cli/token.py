"""`chatd token`: a JSON Web Token of this server's own issuer."""

from typing import Annotated

import typer

from chatd.cli.login import DEFAULT_DATA, Data
from chatd.secrets import TOKEN_LIFETIME_S, mint

app = typer.Typer(add_completion=False)


@app.command(help="Print a token for a user, signed with the secret in the data directory. The server need not run.")
def token(
    name: Annotated[str, typer.Argument(help="The user's name; made at the first login when there is none.")],
    seconds: Annotated[
        int, typer.Option("--seconds", min=1, max=31_536_000, help="Life of the token; the server has a limit, too.")
    ] = TOKEN_LIFETIME_S,
    data: Data = DEFAULT_DATA,
) -> None:
    typer.echo(mint(data, name, seconds))
