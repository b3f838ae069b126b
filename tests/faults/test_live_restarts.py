"""Tickets and session epochs over restarts of the whole server: a client that comes back is let in without a login."""

import sys
from pathlib import Path

import pytest
import trio
from support.live import Closed, Peer

from chatd.testing import ChatdServer
from chatd.wire.frame import Frame
from chatd.wire.schema import Op

RESTARTS = 5
RACING = 3


async def resume_as_soon_as_it_listens(server: ChatdServer, last: Frame) -> Frame:
    """Dials from before the server is there; the answer to the first RESUME that anybody reads."""
    with trio.fail_after(20):
        while True:
            try:
                async with await trio.open_tcp_stream("127.0.0.1", server.port) as stream:
                    peer = Peer(server, "", stream)
                    await peer.hello()
                    return await peer.resume(last["ticket"], last["log_epoch"], last["cursor"])
            except (OSError, trio.BrokenResourceError, Closed):
                await trio.sleep(0.005)


@pytest.mark.parametrize("end", ["stop", "kill"])
@pytest.mark.parametrize("inline", [True, False])
async def test_resumes_that_race_a_restart_are_accepted(tmp_path: Path, end: str, inline: bool) -> None:
    with ChatdServer.start(tmp_path, inline=inline) as server:
        sessions: list[Frame] = []
        for name in range(RACING):
            peer = await Peer.connect(server, f"user{name}")
            async with peer.stream:
                sessions.append(await peer.login())
        for _ in range(RESTARTS):
            await trio.to_thread.run_sync(getattr(server, end))
            answers: list[Frame] = []

            async def come_back(last: Frame, answers: list[Frame] = answers) -> None:
                answers.append(await resume_as_soon_as_it_listens(server, last))

            async with trio.open_nursery() as nursery:
                for session in sessions:
                    nursery.start_soon(come_back, session)
                await trio.to_thread.run_sync(server.launch)
            assert [answer.op for answer in answers] == [Op.RESUMED] * RACING, answers
            newest = {answer["device"]: answer for answer in answers}
            for session in sessions:
                assert newest[session["device"]]["session_epoch"] > session["session_epoch"]
            sessions = list(newest.values())


async def test_a_directory_in_use_is_refused_in_one_sentence_and_left_alone(tmp_path: Path) -> None:
    with ChatdServer.start(tmp_path) as server:
        before = {path.name for path in server.data.iterdir()}
        command = [sys.executable, "-m", "chatd", "serve", "--data", str(server.data), "--listen", "127.0.0.1:0"]
        ended = await trio.run_process(command, check=False, capture_stderr=True)
        said = ended.stderr.decode()
        assert ended.returncode != 0
        assert f"is in use: the chatd of process {server.pid}, which listens on {server.address}, serves it" in said
        assert said.count("\n") == 1
        assert {path.name for path in server.data.iterdir()} == before
