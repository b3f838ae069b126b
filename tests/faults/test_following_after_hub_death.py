"""A hub that dies takes its list of followers with it; a removal afterwards must still end them."""

from pathlib import Path

import trio
from support.kills import until
from support.processes import kill9, workers

from chatd.client import Client, Credential
from chatd.testing import ChatdServer
from chatd.wire.schema import EphemeralKind


async def test_a_removed_member_sees_no_typing_although_the_hub_was_replaced(tmp_path: Path) -> None:
    with ChatdServer.start(tmp_path, "--shards", "2", inline=False) as server:

        def client(name: str) -> Client:
            return Client(server.address, Credential.jwt(server.token(name)))

        async with client("owner") as owner, client("member") as member:
            member_id = (await owner.user_named("member")).id
            cid = await owner.create_group("followed", [member_id])
            heard: list[object] = []

            async def listen(listener: Client, into: list[object]) -> None:
                async for signal_ in listener.signals():
                    into.append(signal_)  # noqa: PERF401 it is looked at meanwhile

            async with trio.open_nursery() as nursery:
                nursery.start_soon(listen, member, heard)
                for follower in (owner, member):
                    follower.follow(cid)
                with trio.fail_after(10):
                    await until(lambda: owner.typing(cid) and typed(heard))
                await replace_hub(server)
                await owner.remove_members(cid, [member_id])
                heard.clear()
                for _ in range(5):
                    owner.typing(cid)
                    await trio.sleep(0.1)
                nursery.cancel_scope.cancel()
            assert not typed(heard)


def typed(heard: list[object]) -> bool:
    return any(getattr(signal_, "kind", None) == EphemeralKind.TYPING for signal_ in heard)


async def replace_hub(server: ChatdServer) -> None:
    before = workers(server.pid)["hub"]
    kill9(before)
    with trio.fail_after(10):
        await until(lambda: workers(server.pid).get("hub", before) != before)
