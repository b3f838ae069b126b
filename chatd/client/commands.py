"""Commands to devices: sending them, waiting for their results, and doing those that come to this device."""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from chatd.client.errors import RefusedError
from chatd.client.history import HistoryMethods
from chatd.client.messages import Messages
from chatd.client.model import Event, Sent
from chatd.client.streams import Updates
from chatd.wire.schema import PULL_EVENTS_MAX, CommandState, ErrorCode, Kind, Method

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Command:
    """A command that waits for its final result. accepted: the device has said that it begins. expires_ms 0: never."""

    cid: int
    seq: int
    sender: int
    time_ms: int
    name: str
    arguments: bytes
    accepted: bool
    expires_ms: int


@dataclass(frozen=True, slots=True)
class CommandResult:
    """The final result of the command at seq `command`: DONE, FAILED, or the server's EXPIRED."""

    cid: int
    command: int
    state: CommandState
    content: bytes


class CommandMethods(Messages, HistoryMethods):
    """Part of Client."""

    @property
    def device(self) -> int:
        raise NotImplementedError

    def events(self, auto: bool = True) -> Updates:
        raise NotImplementedError

    async def device_conversation(self, device: int = 0) -> int:
        """The cid of the conversation of a device of ours (0: this one), made when there is none."""
        return int((await self.request(Method.DEVICE_OPEN, {1: device or self.device}))[1])

    async def command(
        self, cid: int, name: str, arguments: bytes = b"", *, expires_s: int = 0, device: int = 0
    ) -> Sent:
        """Tell a device what to do, in its conversation. expires_s: the server answers EXPIRED then; 0: never.

        device: refused when the conversation is another one's; 0: whose it is.
        """
        fields = {"name": name, "device": device, "expires_s": expires_s, "arguments": arguments}
        return await self.send_fields(cid, Kind.COMMAND, fields)

    async def answer_command(self, cid: int, seq: int, state: CommandState, content: bytes = b"") -> Sent:
        """As the device: ACCEPTED once, then DONE or FAILED. NotPermittedError (EXPIRED): it has its final result."""
        fields = {"command": seq, "state": int(state), "content": content}
        return await self.send_fields(cid, Kind.COMMAND_RESULT, fields)

    async def waiting_commands(self, cid: int) -> list[Command]:
        """Those without a final result, in their order."""
        found = []
        for seq, sender, accepted, expires_ms in (await self.request(Method.COMMAND_LIST, {1: cid}))[1]:
            for event in (await self.history(cid, seq, seq, 1)).events:
                said = event.fields
                found.append(
                    Command(cid, seq, sender, event.time_ms, said["name"], said["arguments"], accepted, expires_ms)
                )
        return found

    async def command_result(self, cid: int, seq: int) -> CommandResult | None:
        """The final result of a command; None: it waits."""
        next_seq = seq + 1
        while next_seq:
            page = await self.history(cid, next_seq, 0, PULL_EVENTS_MAX)
            for event in page.events:
                said = event.fields if event.kind == Kind.COMMAND_RESULT else {}
                if said and said["command"] == seq and said["state"] != CommandState.ACCEPTED:
                    return CommandResult(cid, seq, CommandState(said["state"]), said["content"])
            next_seq = page.next_seq
        return None


class CommandFailed(Exception):
    """Raised by a handler: the result is FAILED with this content."""

    def __init__(self, content: bytes = b"") -> None:
        super().__init__(content)
        self.content = content


Handler = Callable[[Command], Awaitable[bytes]]
"""Does a command; what it returns is the content of DONE."""


class Commands:
    """Does the commands that come to this device, one after the other, each by the handler of its name.

    commands = Commands(client)
    commands.on("open", open_door)
    await commands.serve()

    Each is accepted before its handler is called, so `command.accepted` says that an earlier run of the program had
    begun with it. A handler that raises CommandFailed, or anything else, and a name without handler give FAILED.
    """

    def __init__(self, client: CommandMethods) -> None:
        self._client = client
        self._handlers: dict[str, Handler] = {}

    def on(self, name: str, handler: Handler) -> None:
        self._handlers[name] = handler

    async def serve(self) -> None:
        """Do what waits, then what comes. Reads the client's events: who does that elsewhere calls `work` instead."""
        cid = await self._client.device_conversation()
        await self.work(cid)
        async for update in self._client.events():
            if isinstance(update, Event) and update.cid == cid and update.kind == Kind.COMMAND:
                await self.work(cid)

    async def work(self, cid: int) -> None:
        """Do all that waits now: an event only says that there may be something."""
        for command in await self._client.waiting_commands(cid):
            try:
                await self._do(command)
            except RefusedError as error:
                if error.code != ErrorCode.EXPIRED:
                    raise
                log.info("command %d:%d (%s) has expired", command.cid, command.seq, command.name)

    async def _do(self, command: Command) -> None:
        handler, state = self._handlers.get(command.name), CommandState.DONE
        if handler is None:
            state, content = CommandState.FAILED, f"there is no command {command.name!r} here".encode()
        else:
            if not command.accepted:
                await self._client.answer_command(command.cid, command.seq, CommandState.ACCEPTED)
            try:
                content = await handler(command)
            except CommandFailed as failed:
                state, content = CommandState.FAILED, failed.content
            except Exception as error:
                log.exception("the handler of %r failed", command.name)
                state, content = CommandState.FAILED, str(error).encode()
        await self._client.answer_command(command.cid, command.seq, state, content)
