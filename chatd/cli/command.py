"""`chatd command`: tell devices what to do, and be a device that is told."""

import sys
from typing import Annotated, Any

import anyio
import typer

from chatd.cli.action import action
from chatd.cli.login import Place
from chatd.client import Client, Command, Commands

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Commands to devices: send, wait, listen.")

LOOK_AGAIN_S = 2.0

Cid = Annotated[int, typer.Argument(help="The conversation of the device; `chatd command open` says which.")]


@action(
    app,
    "command",
    "Print the cid of the conversation of a device, where it is told what to do.",
    "open",
)
async def opened(
    client: Client,
    device: Annotated[int, typer.Argument(metavar="DEVICE", min=1, help="As `chatd device list` prints it.")],
) -> int:
    return await client.device_conversation(device)


@action(app, "command", "Send a command and print its final result; --no-wait: its place.", waits=True)
async def send(
    client: Client,
    cid: Cid,
    name: Annotated[str, typer.Argument(help="What is to be done.")],
    arguments: Annotated[str, typer.Argument(help="With what; - reads standard input.")] = "",
    expires: Annotated[int, typer.Option("--expires", min=0, help="Too late after so many seconds; 0: never.")] = 0,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Do not wait for the result.")] = False,
) -> dict[str, Any]:
    data = sys.stdin.buffer.read() if arguments == "-" else arguments.encode()
    sent = await client.command(cid, name, data, expires_s=expires)
    if no_wait:
        return {"cid": sent.cid, "seq": sent.seq}
    return await wait(client, sent.cid, sent.seq)


@action(app, "command", "Wait for the final result of a command and print it.", waits=True)
async def result(client: Client, place: Place) -> dict[str, Any]:
    return await wait(client, *place)


async def wait(client: Client, cid: int, seq: int) -> dict[str, Any]:
    events = client.events()
    while (found := await client.command_result(cid, seq)) is None:
        with anyio.move_on_after(LOOK_AGAIN_S):
            await anext(events)
    return {"cid": cid, "seq": seq, "state": found.state.name.lower(), "content": text_of(found.content)}


@action(app, "command", "List the commands that wait for their result.")
async def waiting(client: Client, cid: Cid) -> list[dict[str, Any]]:
    return [fields_of(command) for command in await client.waiting_commands(cid)]


@action(app, "listen", "Be a device: print the commands that come, and answer each with done.", waits=True)
async def listen(
    client: Client,
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Commands to take; others are failed.")],
    answer: Annotated[str, typer.Option("--answer", help="The content of the results.")] = "",
    count: Annotated[int, typer.Option("--count", min=1, help="Stop after so many.")] = 1,
) -> list[dict[str, Any]]:
    commands, taken, done = Commands(client), list[dict[str, Any]](), anyio.Event()

    async def take(command: Command) -> bytes:
        taken.append(fields_of(command))
        if len(taken) == count:
            done.set()
        return answer.encode()

    for name in names:
        commands.on(name, take)
    cid = await client.device_conversation()
    typer.echo(f"chatd: listening as device {client.device} in conversation {cid}", err=True)
    events = client.events()
    while not done.is_set():
        await commands.work(cid)
        if not done.is_set():
            with anyio.move_on_after(LOOK_AGAIN_S):
                await anext(events)
    return taken


def fields_of(command: Command) -> dict[str, Any]:
    return {
        "cid": command.cid,
        "seq": command.seq,
        "sender": command.sender,
        "time_ms": command.time_ms,
        "name": command.name,
        "arguments": text_of(command.arguments),
        "accepted": command.accepted,
    }


def text_of(content: bytes) -> str:
    return content.decode("utf-8", "backslashreplace")
