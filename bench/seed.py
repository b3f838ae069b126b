"""Users, devices and conversations in a fresh chatd, through its protocol, in seconds.

The server's own token key lies in its data directory, and a token for an unknown user creates that user, so a login is
all that a user needs. Conversations are made by their first member with REQUEST. What was made is kept: a second shape
over the same users costs only what is new. Tokens are made anew for every plan, because they live for minutes.
"""

from pathlib import Path
from typing import Any

import msgpack
import trio

from bench.prefill import ColdSet, conversation_of, device_of, user_of
from bench.shapes import Credential, Shape, write_plan
from chatd.secrets import LOCAL_ISSUER, LOCAL_KEY_ID, directory, read_secret
from chatd.shard.tokens import issue
from chatd.wire.frame import Frame, encode, make
from chatd.wire.framer import Framer
from chatd.wire.schema import Credential as CredentialCode
from chatd.wire.schema import Method, Op

TOKEN_LIFETIME_S = 800
PASSWORD = b"correct horse"
PASSWORDS_AT_ONCE = 16  # the hub hashes one at a time and lets 64 wait
LOGINS_AT_ONCE = 64
STEP_TIMEOUT_S = 60


class SeedError(Exception):
    """The server refused something that the bench needs."""


def first_of(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


class Session:
    """One login, used for requests and then closed."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.framer = Framer()
        self.frames: list[Frame] = []

    async def ask(self, *frames: Frame) -> None:
        await self.stream.send_all(b"".join(encode(frame) for frame in frames))

    async def call(self, method: Method, params: dict[int, object]) -> dict[int, Any]:
        """REQUEST and its REPLY. SeedError when the server refuses."""
        await self.ask(make(Op.REQUEST, id=1, method=int(method), params=msgpack.packb(params)))
        reply = await self.next(Op.REPLY)
        if reply["code"]:
            raise SeedError(f"{method.name}: error {reply['code']} {reply['result']}")
        result = reply["result"]
        fields: dict[int, Any] = msgpack.unpackb(result, strict_map_key=False) if isinstance(result, bytes) else result
        return fields

    async def next(self, *wanted: int) -> Frame:
        """The next frame with one of these ops; ERROR and BYE end the seeding."""
        while True:
            while self.frames:
                frame = self.frames.pop(0)
                if frame.op in wanted:
                    return frame
                if frame.op in (Op.ERROR, Op.BYE):
                    raise SeedError(f"the server answered {frame}")
            data = await self.stream.receive_some(65_536)
            if not data:
                raise SeedError("the server closed the connection")
            self.frames = list(self.framer.feed(data))


class Seeder:
    def __init__(self, port: int, data: Path) -> None:
        self.port = port
        self.key = read_secret(directory(data) / "jwt.key")
        self.users: dict[int, tuple[int, int]] = {}  # number → user, device
        self.tickets: dict[int, bytes] = {}
        self.with_password: set[int] = set()
        self.conversations: dict[tuple[int, ...], int] = {}  # members by number → cid

    def know(self, cold: ColdSet) -> None:
        """What prefill.fill has made. Nobody has logged in yet: there are no tickets."""
        self.users = {number: (user_of(number), device_of(number)) for number in range(cold.devices)}
        self.conversations = {pair: conversation_of(channel) for channel, pair in enumerate(cold.members())}

    def write_plan(self, shape: Shape, path: Path, credential: str) -> None:
        """Make what the shape lacks, and write its plan. SeedError when the server refuses.

        credential: token, password, or ticket: the resume tickets of the first logins.
        """
        try:
            trio.run(self._seed, shape)
            if credential == "password":
                trio.run(self._set_passwords, range(shape.connection_count))
        except* (SeedError, OSError, trio.TooSlowError) as errors:
            raise SeedError(str(first_of(errors))) from errors
        credentials = [self._credential(number, credential) for number in range(shape.connection_count)]
        with path.open("w", encoding="ascii") as file:
            write_plan(file, shape, credentials, [self.conversations[members] for members in shape.members])

    def _credential(self, number: int, kind: str) -> Credential:
        device = self.users[number][1]
        match kind:
            case "ticket":
                return Credential(proof=self.tickets[number])
            case "password":
                return Credential(int(CredentialCode.PASSWORD), device, f"bench-{number}", PASSWORD)
            case _:
                return Credential(int(CredentialCode.JWT), device, "", self._token(number))

    def log_in_once(self) -> None:
        """The first user logs in and leaves. SeedError when the server refuses."""
        try:
            trio.run(self._register, 0)
        except* (SeedError, OSError) as errors:
            raise SeedError(str(first_of(errors))) from errors

    def _token(self, number: int) -> bytes:
        return issue(self.key, LOCAL_KEY_ID, LOCAL_ISSUER, f"bench-{number}", TOKEN_LIFETIME_S).encode()

    async def _seed(self, shape: Shape) -> None:
        missing = [number for number in range(shape.user_count) if number not in self.users]
        await self._each(missing, self._register)
        wanted: dict[int, list[tuple[int, ...]]] = {}
        for members in shape.members:
            if members not in self.conversations:
                wanted.setdefault(members[0], []).append(members)
        await self._each(list(wanted), lambda number: self._open(number, wanted[number]))

    async def _set_passwords(self, numbers: range) -> None:
        missing = [number for number in numbers if number not in self.with_password]
        await self._each(missing, self._set_password, PASSWORDS_AT_ONCE)

    async def _each(self, numbers: list[int], action: Any, at_once: int = LOGINS_AT_ONCE) -> None:
        """action(number) for all of them, at_once at a time."""
        limiter = trio.CapacityLimiter(at_once)

        async def one(number: int) -> None:
            async with limiter:
                with trio.fail_after(STEP_TIMEOUT_S):
                    await action(number)

        async with trio.open_nursery() as nursery:
            for number in numbers:
                nursery.start_soon(one, number)

    async def _login(self, number: int) -> Session:
        session = Session(await trio.open_tcp_stream("127.0.0.1", self.port))
        await session.ask(
            make(Op.HELLO, major=1, features=0, frame_bytes_max=65_535, window_frames=0, window_bytes=0, agent="bench"),
            make(
                Op.AUTH,
                credential=int(CredentialCode.JWT),
                device=self.users.get(number, (0, 0))[1],
                identity="",
                proof=self._token(number),
                label="bench",
            ),
        )
        welcome = await session.next(Op.WELCOME)
        self.users[number] = (welcome["user"], welcome["device"])
        self.tickets[number] = welcome["ticket"]
        return session

    async def _register(self, number: int) -> None:
        session = await self._login(number)
        await session.stream.aclose()

    async def _set_password(self, number: int) -> None:
        session = await self._login(number)
        async with session.stream:
            await session.call(Method.PASSWORD_SET, {2: PASSWORD.decode()})
        self.with_password.add(number)

    async def _open(self, number: int, wanted: list[tuple[int, ...]]) -> None:
        session = await self._login(number)
        async with session.stream:
            for members in wanted:
                users = [self.users[member][0] for member in members[1:]]
                if len(members) == 2:
                    made = await session.call(Method.DIRECT_OPEN, {1: users[0]})
                else:
                    made = await session.call(Method.CONVERSATION_CREATE, {1: 2, 2: "bench", 3: users})
                self.conversations[members] = made[1]
