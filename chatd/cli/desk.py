"""`chatd desk`: customer service, for customers and for agents."""

from typing import Annotated

import typer

from chatd.cli.action import action, user_id
from chatd.cli.group import Cid, Name
from chatd.client import Client
from chatd.client.service import Case, Desk
from chatd.errors import ChatdError
from chatd.wire.schema import CaseState

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Service desks and their cases.")

DeskName = Annotated[str, typer.Argument(help="The desk; `chatd desk list` lists them.")]
STATES = {state.name.lower(): state for state in CaseState}


@action(app, "desk", "List the service desks.", "list")
async def listed(client: Client) -> list[Desk]:
    return await client.desks()


@action(
    app,
    "desk",
    "Make a group a desk, its members are the agents; without CID: end the desk. For administrators.",
    "set",
)
async def put(
    client: Client, name: DeskName, cid: Annotated[int, typer.Argument(help="The group of the agents.")] = 0
) -> None:
    await client.admin_set_desk(name, cid)


@action(app, "desk", "Open a case with a desk and print its cid: where to write.", "open")
async def opened(
    client: Client,
    name: DeskName,
    subject: Annotated[str, typer.Argument(help="What it is about.")] = "",
    customer: Annotated[str, typer.Option("--for", metavar="USER", help="As an agent: for this customer.")] = "",
) -> int:
    return await client.open_case(name, subject, await user_id(client, customer) if customer else 0)


@action(app, "desk", "List the cases of a desk as one of its agents, those that wait longest first.")
async def cases(
    client: Client,
    name: DeskName,
    only: Annotated[str, typer.Option("--only", metavar="STATE", help="open, assigned or closed.")] = "",
) -> list[Case]:
    if only and only not in STATES:
        raise ChatdError(f"--only takes {' or '.join(STATES)}, not {only!r}")
    known = {desk.name: desk.cid for desk in await client.desks()}
    if name not in known:
        raise ChatdError(f"there is no desk {name!r}; there are {', '.join(sorted(known)) or 'none'}")
    return await client.cases(known[name], STATES.get(only))


@action(app, "desk", "Take a case that waits.")
async def take(client: Client, cid: Cid) -> str:
    return f"{cid}:{await client.assign_case(cid, client.user, expected=0)}"


@action(app, "desk", "Give a case to another agent.")
async def assign(client: Client, cid: Cid, agent: Name) -> str:
    return f"{cid}:{await client.assign_case(cid, await user_id(client, agent))}"


@action(app, "desk", "Let a case wait again.")
async def release(client: Client, cid: Cid) -> str:
    return f"{cid}:{await client.assign_case(cid, 0)}"


@action(app, "desk", "Close a case; --undo: open it again.")
async def close(client: Client, cid: Cid, undo: Annotated[bool, typer.Option("--undo")] = False) -> str:
    return f"{cid}:{await client.close_case(cid, not undo)}"


@action(app, "desk", "As the customer of a closed case: say how it was, 1 to 5.")
async def rate(client: Client, cid: Cid, stars: Annotated[int, typer.Argument(min=1, max=5)]) -> str:
    return f"{cid}:{await client.rate_case(cid, stars)}"
