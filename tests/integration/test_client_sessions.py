"""How sessions of the client library end and go on at the real server: tokens that expire, takeover, drain, scripts."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest
from support.stories import QUICK, Play

from chatd.client import AuthError, Client, Credential, Event, Link, LoggedOutError, TakenOverError
from chatd.testing import ChatdServer
from chatd.wire.schema import Close, ErrorCode

SHORT = ("auth.clock_skew_s=0", "auth.reauth_grace_s=1")
TOKEN_S = 2


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChatdServer]:
    flags = [word for setting in SHORT for word in ("--set", setting)]
    with ChatdServer.start(tmp_path_factory.mktemp("sessions"), *flags) as server:
        yield server


async def links(client: Client, until: str) -> list[Link]:
    """States of the connection so far, up to and with that one."""
    found = []
    async for signal in client.signals():
        if isinstance(signal, Link):
            found.append(signal)
            if signal.state == until:
                break
    return found


def test_a_token_made_in_time_keeps_the_session(server: ChatdServer, play: Play) -> None:
    async def story() -> None:
        made = 0

        async def credential() -> Credential:
            nonlocal made
            made += 1
            return Credential.jwt(server.token("olga", TOKEN_S))

        async with Client(server.address, credential, settings=QUICK) as olga, server.client("paul") as paul:
            cid = await olga.direct(paul.user)
            device = olga.device
            sent = 0
            while made < 3:
                sent += 1
                await olga.send(cid, f"{sent}")
                await anyio.sleep(0.1)
            await anyio.sleep(1.5)
            await olga.send(cid, "last")
            assert olga.device == device
            states = [signal.state for signal in await links(olga, "live")]
            assert states == ["connecting", "live"], "one connection all the time"
            assert [event.text for event in await olga.latest(cid, 500) if event.text][-1] == "last"
            with anyio.move_on_after(0.1):
                pytest.fail(f"another connection: {await links(olga, 'waiting')}")

    play(story)


def test_a_token_that_cannot_be_renewed_ends_with_its_grace_period(server: ChatdServer, play: Play) -> None:
    async def story() -> None:
        token = Credential.jwt(server.token("rosa", TOKEN_S))
        async with Client(server.address, token, settings=QUICK) as rosa:
            with pytest.raises(AuthError, match="TOKEN_EXPIRED") as caught:
                await anext(rosa.events())
            assert caught.value.code == ErrorCode.TOKEN_EXPIRED

    play(story)


def test_who_comes_too_late_with_a_token_recovers_and_misses_nothing(server: ChatdServer, play: Play) -> None:
    async def story() -> None:
        made = 0

        async def credential() -> Credential:
            nonlocal made
            made += 1
            if made in {2, 3}:
                raise OSError("the web server is away")
            if made == 4:
                await anyio.sleep(2.5)  # longer than the grace period
            return Credential.jwt(server.token("sara", TOKEN_S if made == 1 else 900))

        async with Client(server.address, credential, settings=QUICK) as sara, server.client("theo") as theo:
            cid = await theo.direct(sara.user)
            seen = await links(sara, "waiting") + await links(sara, "live")
            assert Close.TOKEN_EXPIRED in {link.reason for link in seen}
            await theo.send(cid, "still there?")
            async for update in sara.events():
                if isinstance(update, Event) and update.text == "still there?":
                    break
            sent = await sara.send(cid, "yes")
            assert not sent.dup

    play(story)


def test_takeover_ends_one_of_two_and_there_is_no_war(server: ChatdServer, tmp_path: Path, play: Play) -> None:
    async def story() -> None:
        first, copy = tmp_path / "first.db", tmp_path / "copy.db"
        async with server.client("uwe", settings=QUICK, state=first):
            pass
        shutil.copy(first, copy)
        async with (
            server.client("uwe", settings=QUICK, state=first) as older,
            server.client("uwe", settings=QUICK, state=copy) as newer,
        ):
            assert newer.device == older.device
            with pytest.raises(TakenOverError, match="its own state file"):
                await anext(older.events())
            with pytest.raises(TakenOverError):
                await older.send(1, "too late")
            await anyio.sleep(0.5)
            assert newer.is_live
            assert [link.state for link in await links(newer, "live")] == ["connecting", "live"]
            with anyio.move_on_after(0.1):
                pytest.fail(f"the older one came back: {await links(newer, 'waiting')}")

    play(story)


def test_a_revoked_device_is_logged_out(server: ChatdServer, play: Play) -> None:
    async def story() -> None:
        async with server.client("vera") as vera, server.client("vera") as phone:
            await vera.revoke_device(phone.device)
            with pytest.raises(LoggedOutError, match="another credential") as caught:
                await anext(phone.events())
            assert caught.value.reason == Close.REVOKED
            assert vera.is_live

    play(story)


def test_sigterm_moves_everybody_and_nothing_is_lost(tmp_path: Path, play: Play) -> None:
    """GOAWAY under load, then a new server: unanswered sends are made again, no event comes twice."""
    texts = [f"{number}" for number in range(200)]

    async def story() -> None:
        with ChatdServer.start(tmp_path, "--shards", "2", inline=False) as server:
            async with (
                server.client("wim", settings=QUICK) as wim,
                server.client("xena", settings=QUICK) as xena,
                anyio.create_task_group() as tasks,
            ):
                cid = await wim.direct(xena.user)
                seen: list[str] = []

                async def read() -> None:
                    async for update in xena.events():
                        if isinstance(update, Event) and update.text:
                            seen.append(update.text)
                            if len(seen) == len(texts):
                                return

                async def write() -> None:
                    for text in texts:
                        wim.queue(cid, text)
                        await anyio.sleep(0.005)

                tasks.start_soon(read)
                tasks.start_soon(write)
                await anyio.sleep(0.3)
                await anyio.to_thread.run_sync(server.stop)
                await anyio.to_thread.run_sync(server.launch)
            assert seen == texts

    play(story)


def test_a_script_goes_on_over_a_restart_and_is_told_the_end(tmp_path: Path) -> None:
    with (
        ChatdServer.start(tmp_path) as server,
        server.blocking_client("yves", settings=QUICK) as yves,
        server.blocking_client("zoe", settings=QUICK) as zoe,
    ):
        cid = yves.direct(zoe.user)
        assert yves.send(cid, "before").seq
        server.kill()
        number, promise = yves.queue(cid, "while it was away")
        server.launch()
        assert yves.answer(promise, timeout_s=20).seq
        assert number == 2
        updates = zoe.events(timeout_s=20)
        texts = (update.text for update in updates if isinstance(update, Event) and update.text)
        assert [next(texts), next(texts)] == ["before", "while it was away"]
        with pytest.raises(LoggedOutError):
            zoe.revoke_device(zoe.device)
        with pytest.raises(LoggedOutError):
            list(zoe.events(timeout_s=10))
