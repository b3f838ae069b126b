"""How a command becomes a session: which server, as whom, with which credential, remembering where.

On the machine of the server nobody types a token: who may read DATA/secrets is the operator, so a command mints a token
of fifteen minutes for the user it is told to be. Elsewhere --token (or CHATD_TOKEN) carries a JSON Web Token or an API
key. Every command of every user is a device of its own and keeps its state file, so that `tail` and `send` do not take
each other's session over.
"""

import os
import re
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, NamedTuple, TypeVar

import anyio
import typer

from chatd import secrets
from chatd.client import AuthError, Client, Credential, Settings, UnreachableError, tls_context
from chatd.errors import ChatdError
from chatd.supervisor.status import running_on

Value = TypeVar("Value")

Server = Annotated[
    str | None,
    typer.Option(
        "--server", envvar="CHATD_SERVER", help="host:port; default: the server on --data, else 127.0.0.1:7350."
    ),
]
Data = Annotated[Path, typer.Option("--data", envvar="CHATD_DATA", help="The server's data directory, on its machine.")]
Store = Annotated[
    str,
    typer.Option(
        "--store", envvar="CHATD_STORE", help="sqlite, or postgresql://user@host/database, as `chatd serve` has it."
    ),
]
As = Annotated[str, typer.Option("--as", metavar="USER", help="The user to be.")]
Token = Annotated[
    str | None, typer.Option("--token", envvar="CHATD_TOKEN", help="A JSON Web Token or API key, instead of --data.")
]
StateFile = Annotated[
    Path | None, typer.Option("--state", help="State file of this device; default: one per user and command.")
]
Ca = Annotated[str | None, typer.Option("--tls", metavar="CA", help='Use TLS: a CA file, or "system".')]
Json = Annotated[bool, typer.Option("--json", help="One JSON object per line.")]
Timeout = Annotated[float, typer.Option("--timeout", min=0.1, help="Give up after so many seconds.")]

DEFAULT_SERVER = "127.0.0.1:7350"
DEFAULT_DATA = Path("data")
DEFAULT_STORE = "sqlite"
LOCAL_BACKOFF_MAX_S = 1.0
ADMINISTRATOR = "admin"
SILENT_S = 1.0


class EventPlace(NamedTuple):
    cid: int
    seq: int


def place_of(text: str) -> EventPlace:
    """BadParameter when it is none."""
    found = re.fullmatch(r"(\d{1,18}):(\d{1,18})", text)
    if found is None:
        raise typer.BadParameter(f"{text!r} is not CID:SEQ, like 7:42")
    return EventPlace(int(found[1]), int(found[2]))


Place = Annotated[EventPlace, typer.Argument(metavar="CID:SEQ", parser=place_of, help="As printed by `chatd send`.")]


def credential_of(token: str) -> Credential:
    """API keys begin with chatd_, tokens never do."""
    return Credential.api_key(token) if token.startswith("chatd_") else Credential.jwt(token)


class PatientClient(Client):
    """A client of a command: whoever waits for a session is soon told why, on standard error."""

    async def wait_live(self, timeout_s: float = 30.0) -> None:
        try:
            return await super().wait_live(min(timeout_s, SILENT_S))
        except UnreachableError as error:
            if timeout_s <= SILENT_S:
                raise
            typer.echo(f"chatd: {error} Trying for {timeout_s:g} s, ^C ends it.", err=True)
        return await super().wait_live(timeout_s - SILENT_S)


@dataclass(frozen=True, slots=True)
class Login:
    """What the options say. purpose: the command; it names the device and its state file."""

    purpose: str
    user: str
    server: str | None = None
    data: Path = DEFAULT_DATA
    token: str | None = None
    state: Path | None = None
    tls: str | None = None

    def client(self, *, wait_s: float = 10.0, settings: Settings | None = None) -> Client:
        """A client that mints a new token whenever it needs one."""
        if self.token is None:
            secrets.read_secret(secrets.directory(self.data) / "jwt.key")  # says now what is missing

        async def credential() -> Credential:
            return credential_of(self.token) if self.token else Credential.jwt(secrets.mint(self.data, self.user))

        context = tls_context(None if self.tls == "system" else self.tls) if self.tls else None
        settings = settings or Settings()
        if is_this_host(self.address):
            # Few clients dial from here, and who sits before one waits: no storm to be afraid of.
            settings = replace(settings, backoff_max_s=min(settings.backoff_max_s, LOCAL_BACKOFF_MAX_S))
        return PatientClient(
            self.address,
            credential,
            state=self.state_path,
            tls=context,
            label=f"chatd {self.purpose}",
            wait_s=wait_s,
            settings=settings,
        )

    @property
    def address(self) -> str:
        """host:port: the one given, else where the server of the data directory says that it listens."""
        return self.server or running_on(self.data) or DEFAULT_SERVER

    @property
    def state_path(self) -> Path:
        """With the server's data directory the file lives and dies with it; elsewhere in the user's own directory."""
        if self.state is not None:
            return self.state
        if self.token is None:
            return self.data / "clients" / safe_name(self.user) / f"{self.purpose}.db"
        home = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
        return home / "chatd" / safe_name(self.address) / safe_name(self.user) / f"{self.purpose}.db"


def is_this_host(address: str) -> bool:
    return address.startswith(("127.", "[::1]", "localhost"))


def administrator(server: str | None, data: Path, token: str | None, tls: str | None) -> Client:
    """A client for administrators: --token, or the key that `chatd init` left in the data directory."""
    if token is None:
        path = secrets.directory(data) / "admin.key"
        if path.exists():
            token = secrets.read_key(path)
    login = Login("admin", ADMINISTRATOR, server, data, token, None, tls)
    context = tls_context(None if tls == "system" else tls) if tls else None
    if token is None:
        return login.client()
    # An administrator's command leaves nothing behind, but its device is registered once, not once per call.
    return PatientClient(
        login.address,
        credential_of(token),
        state=administrator_state(login, data),
        tls=context,
        label="chatd admin",
        wait_s=10,
    )


def administrator_state(login: Login, data: Path) -> Path:
    return data / "clients" / ADMINISTRATOR / "admin.db" if data.is_dir() else login.state_path


def run(main: Callable[[], Awaitable[Value]], login: Login | None = None) -> Value:
    """Run a command's coroutine; what people do to commands (^C, a closed pipe) ends it quietly."""
    try:
        return anyio.run(main)
    except AuthError as error:
        raise ChatdError(f"{error}. {_way_out(login)}") from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    except BrokenPipeError:
        # Python would complain about the closed pipe once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(0) from None


def _way_out(login: Login | None) -> str:
    """What to look at when a server does not accept our credential."""
    if login is None:
        return "Is it the server of this data directory (--data), or --token one of its tokens or keys, still good?"
    if login.token is not None:
        return f"Is --token one that {login.address} accepts, not expired and not revoked?"
    text = f"Is {login.address} the server of the data directory {login.data}?"
    if login.state_path.exists():
        text += f" If its data was made anew, it does not know this device: delete {login.state_path}"
    return text


def safe_name(text: str) -> str:
    """Text as a file name: two different texts never give the same one."""
    return "".join(
        c if c.isascii() and (c.isalnum() or c in "-_.") and text not in {".", ".."} else f"%{ord(c):x}" for c in text
    )
