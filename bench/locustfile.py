"""chatd for locust: people in pairs who write to each other. docs/measuring.md, "With locust", says how to start it.

locust runs its users as greenlets, and the client library wants an event loop of its own. So all clients live on one
asyncio loop in one real thread, and a greenlet that calls one of them waits without holding up the others. One process
does some thousands of messages a second: for more, add locust workers, or use `python -m bench`, which is made of C.

CHATD_DATA    the server's data directory: tokens are made with its key
CHATD_TOKENS  without it: a file of tokens for this load, one per line, made by whoever has the key
"""

import asyncio
import itertools
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import gevent
from gevent import monkey
from gevent.event import AsyncResult
from locust import User, between, events, task

from chatd.client import Client, Credential, Event
from chatd.secrets import mint

TOKEN_LIFETIME_S = 800
PARTNER_TIMEOUT_S = 10


class Crowd:
    """The clients of this process, and the thread that runs them."""

    def __init__(self) -> None:
        started: AsyncResult[asyncio.AbstractEventLoop] = AsyncResult()
        monkey.get_original("_thread", "start_new_thread")(self._run, (started,))
        self.loop = started.get()

    @staticmethod
    def _run(started: "AsyncResult[asyncio.AbstractEventLoop]") -> None:
        """The loop is made where it runs: its selector, gevent's, belongs to the thread that made it."""
        loop = asyncio.new_event_loop()
        loop.call_soon(started.set, loop)
        loop.run_forever()

    def call(self, function: Callable[..., Awaitable[Any]], *args: Any) -> Any:
        """Await function(*args) over there; only this greenlet waits. Raises what it raises."""
        answer: AsyncResult[Any] = AsyncResult()

        async def run() -> None:
            try:
                answer.set(await function(*args))
            except Exception as error:  # noqa: BLE001 it belongs to the caller, on the other side
                answer.set_exception(error)

        self.loop.call_soon_threadsafe(lambda: self.loop.create_task(run()))
        return answer.get()


@events.test_start.add_listener  # type: ignore[untyped-decorator]
def on_test_start(**_: Any) -> None:
    """In every process that has users, before the first of them."""
    ChatdUser.crowd = ChatdUser.crowd or Crowd()


class Connection:
    """One client, entered and left in the same task, as its cancel scopes demand. Reports what arrives."""

    def __init__(self, server: str, credential: Credential, on_event: Callable[[Any], None]) -> None:
        self.client = Client(server, credential)
        self.on_event = on_event
        self.left = asyncio.Event()
        self.task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        live = asyncio.get_running_loop().create_future()
        self.task = asyncio.create_task(self._live(live))
        await live

    async def close(self) -> None:
        self.left.set()
        if self.task is not None:
            await self.task

    async def _live(self, live: "asyncio.Future[None]") -> None:
        try:
            async with self.client:
                live.set_result(None)
                reading = asyncio.create_task(self._read())
                await self.left.wait()
                reading.cancel()
        except Exception as error:  # noqa: BLE001 whoever opened it is told
            if not live.done():
                live.set_exception(error)

    async def _read(self) -> None:
        async for update in self.client.events():
            self.on_event(update)


class ChatdUser(User):  # type: ignore[misc]
    """Subclass it and write tasks with `self.send`. Odd users open a conversation with the even one before them."""

    abstract = True
    host = "127.0.0.1:7350"
    numbers = itertools.count()
    crowd: Crowd | None = None

    def on_start(self) -> None:
        self.number = next(self.numbers)
        self.cid: int | None = None
        self.connection = Connection(self.host, credential_of(self.number), self._on_event)
        self._timed("connect", self.connection.open)
        if self.number % 2:
            self.cid = self._timed("open conversation", self._conversation, self.number - 1)

    def on_stop(self) -> None:
        self._call(self.connection.close)

    def send(self, text: str) -> None:
        """Returns when the message is on disk. Counts as `send`; at the other side as `deliver`."""
        if self.cid is not None:
            self._timed("send", self.connection.client.send, self.cid, f"{time.time_ns()} {text}")

    async def _conversation(self, partner: int) -> int:
        """With a user who may be logging in at this moment."""
        deadline = time.monotonic() + PARTNER_TIMEOUT_S
        while True:
            try:
                found = await self.connection.client.user_named(f"locust-{partner}")
                cid: int = await self.connection.client.direct(found.id)
                return cid
            except Exception:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.2)

    def _on_event(self, update: Any) -> None:
        """On the crowd's thread: hand it to a greenlet of locust, whose statistics belong to that thread."""
        if not isinstance(update, Event) or update.own:
            return
        stamp, _, _ = update.payload.partition(b" ")
        if stamp.isdigit():
            late_ms = (time.time_ns() - int(stamp)) / 1e6
            HUB.loop.run_callback_threadsafe(self._report, "deliver", late_ms, len(update.payload), None)

    def _call(self, function: Callable[..., Awaitable[Any]], *args: Any) -> Any:
        assert ChatdUser.crowd is not None
        return ChatdUser.crowd.call(function, *args)

    def _timed(self, name: str, function: Callable[..., Awaitable[Any]], *args: Any) -> Any:
        began, failure = time.perf_counter(), None
        try:
            return self._call(function, *args)
        except Exception as error:  # noqa: BLE001 a failure is a figure of locust
            failure = error
        finally:
            self._report(name, (time.perf_counter() - began) * 1000, 0, failure)

    def _report(self, name: str, response_ms: float, size: int, failure: BaseException | None) -> None:
        events.request.fire(
            request_type="chatd",
            name=name,
            response_time=response_ms,
            response_length=size,
            exception=failure,
            context={},
        )


HUB = gevent.get_hub()


def credential_of(number: int) -> Credential:
    if data := os.environ.get("CHATD_DATA"):
        return Credential.jwt(mint(Path(data), f"locust-{number}", TOKEN_LIFETIME_S))
    tokens = Path(os.environ["CHATD_TOKENS"]).read_text(encoding="ascii").split()
    return Credential.jwt(tokens[number % len(tokens)])


class Person(ChatdUser):
    """Writes every second or two."""

    wait_time = between(1, 2)

    @task  # type: ignore[untyped-decorator]
    def write(self) -> None:
        self.send("as people write them")
