"""Commands that call one or two methods as a user: what they share is written once.

An action is an async function of a client and of its own options; `action` makes a command of it that also takes the
options of every login. What the action returns is printed: text as it is, the place of an event that it sent, a list
one line for each entry.
"""

import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, is_dataclass
from datetime import UTC, datetime, timedelta
from inspect import Parameter, signature
from typing import Any, get_type_hints

import anyio
import typer

from chatd.cli.login import DEFAULT_DATA, As, Ca, Data, Json, Login, Server, StateFile, Timeout, Token, run
from chatd.cli.show import local_time, safe
from chatd.client import Client, Sent
from chatd.errors import ChatdError

Action = Callable[..., Awaitable[Any]]

_LOGIN = {"user": As, "server": Server, "data": Data, "token": Token, "state": StateFile, "tls": Ca, "as_json": Json}
_DEFAULTS = {"user": Parameter.empty, "data": DEFAULT_DATA, "as_json": False, "timeout": 30.0}
LOGIN_TIMEOUT_S = 10.0
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def action(
    app: typer.Typer, purpose: str, help_text: str, name: str | None = None, *, waits: bool = False
) -> Callable[[Action], Action]:
    """Register an action. purpose: the command's name; it names the device. waits: for what need not come, so the
    command takes --timeout, too.
    """
    added = {**_LOGIN, "timeout": Timeout} if waits else _LOGIN

    def register(function: Action) -> Action:
        hints = get_type_hints(function, include_extras=True)
        own = list(signature(function).parameters.values())[1:]

        def command(**options: Any) -> None:
            as_json, timeout = options.pop("as_json"), options.pop("timeout", None)
            login = Login(purpose, **{key: options.pop(key) for key in _LOGIN if key != "as_json"})

            async def main() -> Any:
                async with login.client(wait_s=timeout or LOGIN_TIMEOUT_S) as client:
                    with anyio.move_on_after(timeout):
                        return await function(client, **options)
                raise ChatdError(f"no answer within {timeout:g} s: what was sent stays queued for the next command")

            show(run(main, login), as_json)

        kind = Parameter.KEYWORD_ONLY
        given = [Parameter(one.name, kind, default=one.default, annotation=hints[one.name]) for one in own]
        given += [Parameter(key, kind, default=_DEFAULTS.get(key), annotation=of) for key, of in added.items()]
        vars(command)["__signature__"] = signature(function).replace(parameters=given, return_annotation=None)
        command.__annotations__ = {one.name: one.annotation for one in given}
        app.command(name or function.__name__.replace("_", "-"), help=help_text)(command)
        return function

    return register


def show(answer: Any, as_json: bool) -> None:
    entries: Sequence[Any] = answer if isinstance(answer, list) else [] if answer is None else [answer]
    for entry in entries:
        if as_json:
            typer.echo(json.dumps(fields_of(entry), ensure_ascii=False, default=link_of))
        elif isinstance(entry, Sent):
            typer.echo(f"{entry.cid}:{entry.seq}")
        else:
            typer.echo("  ".join(shown(key, value) for key, value in fields_of(entry).items()))


def fields_of(entry: Any) -> dict[str, Any]:
    if isinstance(entry, dict):
        return entry
    return asdict(entry) if is_dataclass(entry) and not isinstance(entry, type) else {"said": entry}


def shown(key: str, value: Any) -> str:
    if key == "said":
        return str(value)
    if isinstance(value, bytes):
        return f"{key} {link_of(value)}"
    if key.endswith("_ms"):
        return f"{key[:-3]} {local_time(value)}"
    if key.endswith("_until_s") or key == "expires_s":
        until = "-" if not value else "for ever" if value == (1 << 32) - 1 else local_time(value * 1000)
        return f"{key[:-2].replace('_', ' ')} {until}"
    return f"{key} {safe(str(value))}"


def link_of(token: bytes) -> str:
    """An invitation as people pass it on."""
    return token.hex()


def token_of(link: str) -> bytes:
    try:
        return bytes.fromhex(link)
    except ValueError:
        raise ChatdError(f"{safe(link)!r} is no invitation: 32 characters from 0 to 9 and a to f") from None


def moment(text: str) -> int:
    """Unix seconds of `10m`, `2h`, `7d` from now, or of a date and time; `never` and `0` are 0."""
    if text in {"never", "0"}:
        return 0
    if text[:-1].isdecimal() and text[-1:] in UNITS:
        return int((datetime.now(UTC) + timedelta(seconds=int(text[:-1]) * UNITS[text[-1]])).timestamp())
    try:
        return int(datetime.fromisoformat(text).timestamp())
    except ValueError:
        raise ChatdError(f"{safe(text)!r} is no time: say 10m, 2h, 7d, never or 2030-01-31T12:00") from None


async def user_id(client: Client, name: str) -> int:
    return (await client.user_named(name)).id
