"""The client library: chatd for programs on trio or asyncio.

    async with Client("127.0.0.1:7350", Credential.jwt(token), state="alice.db") as client:
        cid = await client.direct((await client.user_named("bob")).id)
        sent = await client.send(cid, "hello")
        async for event in client.events():
            ...

The session machine (session.py) decides everything; this file connects, moves bytes and sleeps.
"""

import os
import random
import ssl
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import anyio
import anyio.to_thread
from anyio.abc import ByteStream, TaskGroup

from chatd.client.commands import CommandMethods
from chatd.client.errors import ClientError, ClosedError, NoAnswerError, UnreachableError
from chatd.client.history import asked_by
from chatd.client.inbox import Page
from chatd.client.login import Credential
from chatd.client.model import Event, Overview, Promise, Sent, Settings
from chatd.client.session import ClientSession
from chatd.client.state import State
from chatd.client.streams import Signals, Updates
from chatd.client.telling import Telling
from chatd.client.transport import connect, parse_server
from chatd.wire import schema
from chatd.wire.frame import Extensions
from chatd.wire.schema import Close, EphemeralKind, Kind, PresenceState, Topic

READ_BYTES = 65536
CONNECT_TIMEOUT_S = 10.0
CREDENTIAL_TIMEOUT_S = 30.0
GOODBYE_TIMEOUT_S = 2.0
Value = TypeVar("Value")
CredentialSource = Credential | Callable[[], Awaitable[Credential]]


class Client(CommandMethods, Telling):
    """One device of one user; an async context manager that stays connected until it is left.

    server: "host:port". credential: a Credential, or an async function that makes one whenever it is needed (tokens
    expire): when it raises ClientError the session ends with that, after any other error it is asked again later;
    None: by the ticket of the state file only. state: path of the file that makes sends and positions survive
    this process; None: in memory, a new device each time. tls: an ssl.SSLContext, see transport.tls_context.
    wait_s: how long entering may take until the session is live; 0: enter at once and go on offline.
    Entering raises UnreachableError, AuthError, ClosedError or StateError. Not thread-safe; see chatd.client.blocking.
    """

    def __init__(
        self,
        server: str = "127.0.0.1",
        credential: CredentialSource | None = None,
        *,
        state: str | Path | None = None,
        tls: ssl.SSLContext | None = None,
        server_name: str | None = None,
        label: str = "python",
        wait_s: float = 30.0,
        settings: Settings | None = None,
    ) -> None:
        self._address = parse_server(server)
        self._source = credential
        self._state_path = state
        self._tls = tls
        self._server_name = server_name
        self._label = label
        self._wait_s = wait_s
        self._settings = settings or Settings()
        self._session: ClientSession | None = None
        self._tasks: TaskGroup | None = None
        self._asking = False
        self._changed = anyio.Event()
        self._goodbye = anyio.Event()

    # ------------------------------------------------------------ life

    async def __aenter__(self) -> Self:
        self._session = ClientSession(
            self._source if isinstance(self._source, Credential) else None,
            await anyio.to_thread.run_sync(State, self._state_path),
            self._settings,
            address=self._address,
            random=random.SystemRandom().random,
            random_bytes=os.urandom,
            label=self._label,
            now=anyio.current_time(),
        )
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        self._tasks.start_soon(self._run)
        if self._wait_s:
            try:
                await self.wait_live(self._wait_s)
            except BaseException as error:
                await self.__aexit__(type(error), error, error.__traceback__)
                raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        """BYE, then the end. What is not answered stays in the state file for the next run."""
        session, tasks = self._opened(), self._tasks
        session.close()
        self._wake()
        try:
            if tasks is not None:
                if session.connection is not None:
                    with anyio.move_on_after(GOODBYE_TIMEOUT_S, shield=True):
                        await self._goodbye.wait()
                tasks.cancel_scope.cancel()
                await tasks.__aexit__(None, None, None)
                self._tasks = None
        finally:
            # Also when the program is being cancelled: nobody else could use the file.
            session.state.close()
        return None

    async def wait_live(self, timeout_s: float = 30.0) -> None:
        """Return when the first session is live. UnreachableError after timeout_s; AuthError and the like at once."""
        session = self._opened()
        try:
            await self._answer(session.live, timeout_s)
        except NoAnswerError:
            host, port = self._address
            raise UnreachableError(
                f"no session with {host}:{port} within {timeout_s:g} s ({session.last_trouble or 'no answer'}):"
                " is the server running there?"
            ) from None

    @property
    def user(self) -> int:
        """The user this client is logged in as; 0 before the first login."""
        return self._opened().inbox.me

    @property
    def device(self) -> int:
        return self._opened().state.device

    @property
    def is_live(self) -> bool:
        return self._session is not None and self._session.phase == "live"

    # ------------------------------------------------------------ sending

    async def send(
        self, cid: int, payload: str | bytes, kind: Kind = Kind.TEXT, *, extensions: Extensions = ()
    ) -> Sent:
        """Store and deliver one event; returns when it is durable, over any number of reconnects.

        Raises InvalidError, NotFoundError, ForbiddenError ... when refused for good. Cancelling only stops the waiting:
        the send stays queued (in the state file) and will be made.
        """
        return await self._answer(self.queue(cid, payload, kind, extensions)[1])

    def queue(
        self, cid: int, payload: str | bytes, kind: Kind = Kind.TEXT, extensions: Extensions = ()
    ) -> tuple[int, Promise[Sent]]:
        """Queue a send without waiting: its cseq (for `withdraw`) and the promise that `answer` waits for."""
        data = payload.encode() if isinstance(payload, str) else payload
        queued = self._usable().outbox.enqueue(cid, int(kind), data, extensions)
        self._wake()
        return queued

    async def answer(self, promise: Promise[Value], timeout_s: float | None = None) -> Value:
        """Wait for a promise of this client. NoAnswerError after timeout_s."""
        return await self._answer(promise, timeout_s)

    def withdraw(self, cseq: int) -> None:
        """Give a queued send up: its promise ends with WithdrawnError, or resolves when it had been stored."""
        self._opened().outbox.withdraw(cseq)
        self._wake()

    # ------------------------------------------------------------ receiving

    def events(self, auto: bool = True) -> Updates:
        """Every event of every conversation once and in order, with Gap and Reset where that cannot be.

        auto: taking the next one confirms the one before (its position is stored); otherwise call `event.done()`.
        Not confirmed events come again after a restart with the same state file. Who takes slowly is not flooded: the
        server waits. Raises ClosedError when the session ends for good. One reader at a time.
        """
        session = self._opened()
        session.inbox.start()
        self._wake()
        return Updates(session, auto, self._change, self._taken)

    def signals(self) -> Signals:
        """Typing, receipts, state of the connection: the newest few, nothing durable. One reader at a time."""
        return Signals(self._opened(), self._change)

    async def _change(self) -> None:
        await self._changed.wait()

    def _taken(self, size_bytes: int, generation: int) -> None:
        """The application took an update: if it came by this connection, its place in the window is free."""
        connection = self._opened().connection
        if connection is not None and generation == connection.generation:
            connection.acks.release(size_bytes, anyio.current_time())
            self._wake()

    async def history(
        self,
        cid: int,
        from_seq: int = 1,
        to_seq: int = 0,
        limit: int = 100,
        *,
        before: int = 0,
        from_ms: int | None = None,
        folded: bool = False,
        timeout_s: float = 30.0,
    ) -> Page:
        """Events from_seq..to_seq (0: to the newest), at most `limit` (1 to 200); positions are not touched.

        from_ms: from that time (Unix milliseconds) instead of from_seq. before: begin so many events earlier. folded:
        messages as they are now (Event.now), without the events that only change others (Page.omitted).
        """
        asked = asked_by(before, from_ms, folded)
        promise = self._usable().inbox.ask(cid, from_seq, to_seq, max(1, min(limit, schema.PULL_EVENTS_MAX)), asked)
        if promise is None:
            raise ClientError("too many history requests wait for an answer")
        self._wake()
        return await self._answer(promise, timeout_s)

    async def latest(self, cid: int, count: int = 50, before_seq: int = 0) -> list[Event]:
        """The newest `count` events, or those before before_seq, ascending: what a chat window shows."""
        if not before_seq:
            before_seq = (await self.history(cid, 1, 1, 1)).head_seq + 1
        events: list[Event] = []
        next_seq = max(1, before_seq - count)
        while next_seq and next_seq < before_seq:
            page = await self.history(cid, next_seq, before_seq - 1, schema.PULL_EVENTS_MAX)
            events += page.events
            next_seq = page.next_seq
        return events

    def conversations(self) -> list[Overview]:
        """What is known of every conversation: kind, unread count, last message. Complete after the first SYNC."""
        return [conversation.overview for conversation in self._opened().inbox.conversations.values()]

    async def synced(self, timeout_s: float = 30.0) -> None:
        """Return when a whole SYNC has been seen: `conversations` is complete."""
        session = self._opened()
        with anyio.move_on_after(timeout_s):
            while not session.synced:
                if session.closed:
                    raise session.error or ClosedError(Close.NORMAL)
                await self._changed.wait()
            return
        raise NoAnswerError("the list of conversations did not come in time")

    # ------------------------------------------------------------ read positions and the ephemeral side

    def mark_read(self, cid: int, seq: int) -> None:
        """The user has read up to seq; kept over reconnects, merged over devices."""
        self._opened().wishes.mark_read(cid, seq, anyio.current_time())
        self._wake()

    def typing(self, cid: int, started: bool = True) -> bool:
        """Tell others who follow the conversation; we must follow it, too. False: not connected, nothing was said."""
        return self.ephemeral(cid, EphemeralKind.TYPING, bytes((started,)))

    def ephemeral(self, cid: int, kind: int, payload: bytes) -> bool:
        """Say something that is never stored, where we follow. False: not connected, nothing was said."""
        said = self._opened().wishes.ephemeral(cid, int(kind), payload)
        self._wake()
        return said

    def follow(self, cid: int, topics: Topic = Topic.EPHEMERAL | Topic.RECEIPTS) -> None:
        """Get typing and receipts, with Topic.STREAMS also live streams, of a conversation as signals, over reconnects;
        Followed says what was granted.
        """
        self._opened().wishes.follow(cid, int(topics))
        self._wake()

    def unfollow(self, cid: int) -> None:
        self._opened().wishes.unfollow(cid)
        self._wake()

    def follow_presence(self, *users: int) -> None:
        """Get Presence signals of these users, the first one at once, over reconnects."""
        self._opened().wishes.presences.follow(users, anyio.current_time())
        self._wake()

    def unfollow_presence(self, *users: int) -> None:
        self._opened().wishes.presences.unfollow(users, anyio.current_time())
        self._wake()

    def set_presence(self, state: PresenceState) -> None:
        """What others see of this device: ONLINE, AWAY or INVISIBLE, over reconnects."""
        self._opened().wishes.presences.say(state, anyio.current_time())
        self._wake()

    async def request(
        self, method: int, params: Mapping[int, Any] | None = None, *, timeout_s: float = 30.0
    ) -> dict[int, Any]:
        """Call a method; repeated with an idempotency key over reconnects and retryable refusals until timeout_s."""
        session = self._usable()
        promise = session.requests.ask(method, params or {}, timeout_s, anyio.current_time())
        self._wake()
        try:
            return await self._answer(promise)
        finally:
            session.requests.forget(promise)

    # ------------------------------------------------------------ the shell around the session machine

    def _opened(self) -> ClientSession:
        if self._session is None:
            raise ClientError("the client is not open: use `async with`")
        return self._session

    def _usable(self) -> ClientSession:
        """For calls that would wait for an answer for ever once the session has ended."""
        session = self._opened()
        if session.closed:
            raise session.error or ClosedError(Close.NORMAL)
        return session

    def _wake(self) -> None:
        """Something changed: whoever waits looks again."""
        changed, self._changed = self._changed, anyio.Event()
        changed.set()

    async def _answer(self, promise: Promise[Value], timeout_s: float | None = None) -> Value:
        if not promise.done:
            settled = anyio.Event()
            promise.listeners.append(settled.set)
            with anyio.move_on_after(timeout_s):
                await settled.wait()
        if not promise.done:
            raise NoAnswerError(f"no answer within {timeout_s:g} s")
        return promise.result()

    async def _run(self) -> None:
        """Connect, serve, connect again, until the session is closed."""
        session = self._opened()
        try:
            while not session.closed:
                self._renew(session)
                address = session.dial(anyio.current_time())
                if address is not None:
                    await self._one_connection(session, address)
                else:
                    await self._sleep(session)
                    session.tick(anyio.current_time())
                self._wake()
        finally:
            self._goodbye.set()
            self._wake()

    async def _sleep(self, session: ClientSession) -> None:
        deadline = session.deadline()
        delay_s = None if deadline is None else max(0.0, deadline - anyio.current_time())
        changed = self._changed
        with anyio.move_on_after(delay_s):
            await changed.wait()

    def _renew(self, session: ClientSession) -> None:
        """Ask the program for a credential when one is wanted, beside everything else: it may take its time."""
        if self._asking or self._tasks is None or not session.renewal.take():
            return
        if callable(self._source):
            self._asking = True
            self._tasks.start_soon(self._ask, session, self._source)
        else:
            session.no_credential(anyio.current_time())

    async def _ask(self, session: ClientSession, source: Callable[[], Awaitable[Credential]]) -> None:
        try:
            with anyio.fail_after(CREDENTIAL_TIMEOUT_S):
                session.new_credential(await source())
        except ClientError as error:
            session.stop(error)
        except Exception as error:  # noqa: BLE001  whatever the program uses to get one: it may work in a moment
            text = str(error) or type(error).__name__
            session.no_credential(anyio.current_time(), f"no credential: {text}")
        finally:
            self._asking = False
            self._wake()

    async def _one_connection(self, session: ClientSession, address: tuple[str, int]) -> None:
        trouble = ""
        try:
            with anyio.fail_after(CONNECT_TIMEOUT_S):
                stream = await connect(*address, self._tls, self._server_name)
        except TimeoutError:
            session.lost(anyio.current_time(), f"no connection to {address[0]}:{address[1]} in {CONNECT_TIMEOUT_S:g} s")
            return
        except OSError as error:
            session.lost(anyio.current_time(), f"{address[0]}:{address[1]}: {reason_of(error)}")
            return
        try:
            session.connected(anyio.current_time())
            async with anyio.create_task_group() as pumps:
                pumps.start_soon(self._read, session, stream, pumps)
                await self._write(session, stream)
                pumps.cancel_scope.cancel()
        except* (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError) as group:
            trouble = str(group.exceptions[0]) or "connection reset"
        finally:
            with anyio.move_on_after(GOODBYE_TIMEOUT_S, shield=True):
                await stream.aclose()
            session.lost(anyio.current_time(), trouble)

    async def _read(self, session: ClientSession, stream: ByteStream, pumps: TaskGroup) -> None:
        try:
            while not session.hang_up:
                data = await stream.receive(READ_BYTES)
                session.received(data, anyio.current_time())
                self._wake()
        except anyio.EndOfStream:
            pumps.cancel_scope.cancel()

    async def _write(self, session: ClientSession, stream: ByteStream) -> None:
        """Write what the session has, sleep until it may have more; return when it hangs up."""
        while True:
            session.tick(anyio.current_time())
            self._renew(session)
            out = session.take(anyio.current_time())
            if out:
                await stream.send(out)
            elif session.hang_up:
                return
            else:
                await self._sleep(session)


def reason_of(error: OSError) -> str:
    """The innermost reason: anyio wraps refusals of several addresses in a group."""
    cause: BaseException = error
    while isinstance(cause.__cause__, (OSError, ExceptionGroup)):
        cause = cause.__cause__
        if isinstance(cause, ExceptionGroup):
            cause = cause.exceptions[0]
    if isinstance(cause, OSError) and cause.errno is not None and cause.errno > 0:
        return os.strerror(cause.errno)  # asyncio puts its own words into strerror
    return getattr(cause, "strerror", None) or str(cause)
