"""The client library: pure Python on anyio, so that trio and asyncio programs share it. Start with `Client`.

It keeps a device connected, sends each event exactly once and gives each event to the application once and in order.
No compiler is needed, and no part of the server is imported.
"""

from chatd.client.client import Client, CredentialSource
from chatd.client.errors import (
    AuthError,
    ClientError,
    ClosedError,
    ForbiddenError,
    InvalidError,
    LimitReachedError,
    MovedError,
    NoAnswerError,
    NotFoundError,
    NotPermittedError,
    OutboxFullError,
    RefusedError,
    StateError,
    ThrottledError,
    UnavailableError,
    UnreachableError,
    WithdrawnError,
)
from chatd.client.inbox import Page
from chatd.client.login import Credential
from chatd.client.model import (
    Ephemeral,
    Event,
    Followed,
    Gap,
    Link,
    Notice,
    Overview,
    Promise,
    Receipt,
    Reset,
    SendFailed,
    Sent,
    Settings,
    Signal,
    Update,
)
from chatd.client.transport import DEFAULT_PORT, tls_context

__all__ = [
    "DEFAULT_PORT",
    "AuthError",
    "Client",
    "ClientError",
    "ClosedError",
    "Credential",
    "CredentialSource",
    "Ephemeral",
    "Event",
    "Followed",
    "ForbiddenError",
    "Gap",
    "InvalidError",
    "LimitReachedError",
    "Link",
    "MovedError",
    "NoAnswerError",
    "NotFoundError",
    "NotPermittedError",
    "Notice",
    "OutboxFullError",
    "Overview",
    "Page",
    "Promise",
    "Receipt",
    "RefusedError",
    "Reset",
    "SendFailed",
    "Sent",
    "Settings",
    "Signal",
    "StateError",
    "ThrottledError",
    "UnavailableError",
    "UnreachableError",
    "Update",
    "WithdrawnError",
    "tls_context",
]
