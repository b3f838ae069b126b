"""The client's side of commands: a device that does what it is told, and somebody who waits for the result."""

from contextlib import AsyncExitStack

import anyio
import trio

from chatd.client import Client, Command, CommandFailed, CommandResult, Commands
from chatd.testing import ChatdServer
from chatd.wire.schema import CommandState

WITHIN_S = 60.0


async def final(client: Client, cid: int, seq: int) -> CommandResult:
    with trio.fail_after(WITHIN_S):
        while (found := await client.command_result(cid, seq)) is None:  # noqa: ASYNC110 nobody reads its events here
            await anyio.sleep(0.2)
    return found


async def test_a_device_does_what_waits_and_what_comes(chatd_server: ChatdServer) -> None:
    seen: list[Command] = []

    async def double(command: Command) -> bytes:
        seen.append(command)
        return command.arguments * 2

    async def refuse(command: Command) -> bytes:
        raise CommandFailed(b"not today")

    async def crash(command: Command) -> bytes:
        raise RuntimeError("out of paper")

    async with AsyncExitStack() as stack:
        panel, lamp = [await stack.enter_async_context(chatd_server.client("cora")) for _ in range(2)]
        cid = await panel.device_conversation(lamp.device)
        assert await lamp.device_conversation() == cid
        early = await panel.command(cid, "double", b"ab", device=lamp.device)
        (waiting,) = await panel.waiting_commands(cid)
        assert (waiting.seq, waiting.name, waiting.arguments) == (early.seq, "double", b"ab")
        assert await panel.command_result(cid, early.seq) is None
        commands = Commands(lamp)
        for name, handler in (("double", double), ("refuse", refuse), ("crash", crash)):
            commands.on(name, handler)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(commands.serve)
            sent = [early] + [await panel.command(cid, name, b"x") for name in ("double", "refuse", "crash", "other")]
            results = [await final(panel, cid, one.seq) for one in sent]
            nursery.cancel_scope.cancel()
        assert [(result.state, result.content) for result in results] == [
            (CommandState.DONE, b"abab"),
            (CommandState.DONE, b"xx"),
            (CommandState.FAILED, b"not today"),
            (CommandState.FAILED, b"out of paper"),
            (CommandState.FAILED, b"there is no command 'other' here"),
        ]
        assert [command.seq for command in seen] == [early.seq, sent[1].seq], "each once"
        assert await panel.waiting_commands(cid) == []


async def test_customers_and_agents(chatd_server: ChatdServer) -> None:
    async with AsyncExitStack() as stack:
        names = ("admin", "agnes", "carl")
        boss, agent, customer = [await stack.enter_async_context(chatd_server.client(name)) for name in names]
        group = await agent.create_group("desk")
        await boss.admin_set_desk("client-help", group)
        assert ("client-help", group) in [(desk.name, desk.cid) for desk in await customer.desks()]
        cid = await customer.open_case("client-help", "how?")
        (case,) = await agent.cases(group)
        assert (case.cid, case.customer, case.agent, case.subject) == (cid, customer.user, 0, "how?")
        assert await agent.assign_case(cid, agent.user, expected=0)
        await agent.send(cid, "so")
        assert await agent.close_case(cid)
        assert await customer.rate_case(cid, 5)
        assert (await agent.cases(group))[0].stars == 5
