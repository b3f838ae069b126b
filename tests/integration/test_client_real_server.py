"""The client library with the real server, on trio and asyncio: everyday use, and kill -9 in mid-conversation."""

from pathlib import Path

import anyio
import pytest
from support.stories import QUICK, Play

from chatd.client import Client, Credential, Ephemeral, Event, Followed, NotFoundError, Receipt
from chatd.testing import ChatdServer
from chatd.wire.schema import Kind, Role


async def texts(source: Client, count: int) -> list[str]:
    """The next `count` texts; other events are passed over."""
    found: list[str] = []
    async for update in source.events():
        assert isinstance(update, Event)
        if update.kind == Kind.TEXT:
            found.append(update.text)
            if len(found) == count:
                return found
    raise AssertionError("events ended")


def test_a_group_from_creation_to_leaving(chatd_server: ChatdServer, play: Play) -> None:
    async def story() -> None:
        async with (
            chatd_server.client("gina", settings=QUICK) as gina,
            chatd_server.client("hugo", settings=QUICK) as hugo,
            chatd_server.client("ines", settings=QUICK) as ines,
        ):
            cid = await gina.create_group("Team", [hugo.user])
            await gina.send(cid, "before")
            await gina.add_members(cid, [ines.user])
            await gina.set_role(cid, hugo.user, Role.ADMIN)
            await hugo.set_title(cid, "The team")
            await hugo.send(cid, "after")
            assert await texts(gina, 2) == ["before", "after"]
            assert await texts(hugo, 2) == ["before", "after"]
            assert await texts(ines, 1) == ["after"]
            info = await ines.conversation(cid)
            assert (info.title, info.member_count) == ("The team", 3)
            assert {member.name: member.role for member in await gina.members(cid)} == {
                "gina": Role.OWNER,
                "hugo": Role.ADMIN,
                "ines": Role.MEMBER,
            }
            await ines.leave(cid)
            with pytest.raises(NotFoundError):
                await ines.send(cid, "from outside")
            assert [event.text for event in (await gina.history(cid, 1, 0, 200)).events if event.text][-1] == "after"

    play(story)


def test_typing_and_receipts_reach_followers(chatd_server: ChatdServer, play: Play) -> None:
    async def story() -> None:
        async with chatd_server.client("jana") as jana, chatd_server.client("karl") as karl:
            cid = await jana.direct(karl.user)
            for client in (jana, karl):
                client.follow(cid)
                async for signal in client.signals():
                    if isinstance(signal, Followed):
                        break
            sent = await jana.send(cid, "seen?")
            karl.typing(cid)
            karl.mark_read(cid, sent.seq)
            waited = set()
            async for signal in jana.signals():
                if isinstance(signal, Ephemeral) and signal.sender == karl.user:
                    waited.add("typing")
                if isinstance(signal, Receipt) and (signal.user, signal.read_seq) == (karl.user, sent.seq):
                    waited.add("read")
                if waited == {"typing", "read"}:
                    break

    play(story)


def test_every_credential_logs_in(chatd_server: ChatdServer, play: Play) -> None:
    async def story() -> None:
        key = (chatd_server.data / "secrets" / "admin.key").read_text().strip()
        async with Client(chatd_server.address, Credential.api_key(key)) as admin:
            name = f"lena{len(await admin.admin_users())}"
            user = await admin.admin_create_user(name, password="correct horse battery")
        async with Client(chatd_server.address, Credential.password(name, "correct horse battery")) as lena:
            assert lena.user == user
            device, secret = await lena.create_device_key("sensor")
        async with Client(chatd_server.address, Credential.device_key(device, secret)) as sensor:
            assert (sensor.user, sensor.device) == (user, device)
            assert device in {known.id for known in await sensor.devices()}

    play(story)


def test_kill_9_in_mid_conversation_loses_and_repeats_nothing(
    chatd_server_fresh: ChatdServer, tmp_path: Path, play: Play
) -> None:
    server = chatd_server_fresh

    async def story() -> None:
        got: list[str] = []
        wanted = [f"message {number}" for number in range(120)]
        async with (
            server.client("alice", settings=QUICK, state=tmp_path / "alice.db") as alice,
            server.client("bob", settings=QUICK, state=tmp_path / "bob.db") as bob,
        ):
            cid = await alice.direct(bob.user)

            async def read() -> None:
                got.extend(await texts(bob, len(wanted)))

            async def write() -> None:
                for text in wanted:
                    alice.queue(cid, text)
                    await anyio.sleep(0.005)

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(read)
                tasks.start_soon(write)
                for _ in range(2):
                    await anyio.sleep(0.2)
                    server.kill()
                    await anyio.to_thread.run_sync(server.launch)
            assert got == wanted
            stored = [event.text for event in await bob.latest(cid, 500) if event.text]
            assert stored == wanted

    play(story)
