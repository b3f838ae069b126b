"""`chatd kinds`: the kinds of messages that this server knows beside its own."""

from typing import Any

import typer

from chatd.cli.action import action
from chatd.client import Client

app = typer.Typer(add_completion=False)


@action(app, "kinds", "List the registered kinds of TYPED messages, with the schema of their content.")
async def kinds(client: Client) -> list[dict[str, Any]]:
    return [{"name": name, "schema": schema or "-"} for name, schema in (await client.kinds()).items()]
