"""`chatd chat`: the terminal client."""

from typing import Annotated

import typer

from chatd.cli.login import DEFAULT_DATA, As, Ca, Data, Login, Server, StateFile, Token

app = typer.Typer(add_completion=False)


@app.command(help="Chat in the terminal. F1 shows the keys. Without a connection it starts, too, and sends later.")
def chat(
    user: As,
    to: Annotated[
        str | None, typer.Option("--to", metavar="USER", help="Open the conversation with this user.")
    ] = None,
    server: Server = None,
    data: Data = DEFAULT_DATA,
    token: Token = None,
    state: StateFile = None,
    tls: Ca = None,
) -> None:
    from chatd.cli.chat.screen import ChatApp
    from chatd.client.state import State

    login = Login("chat", user, server, data, token, state, tls)
    client = login.client(wait_s=0)
    # Before the screen is there: two chats with one state file would take each other's session over.
    State(login.state_path, busy_timeout_s=0.5).close()
    chat_app = ChatApp(client, user, open_with=to)
    chat_app.run()
    if chat_app.failure is not None:
        raise chat_app.failure
