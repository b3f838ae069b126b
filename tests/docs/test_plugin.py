"""The example plugin of the documentation: installed, loaded by a real server, and asked about every message."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgpack
import pytest
from support.live import Peer, peer

from chatd.testing import ChatdServer
from chatd.wire.schema import ErrorCode, Kind, Method, Op

EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "examples" / "chatd-poll"
POLL = {"question": "Lunch?", "choices": ["soup", "salad"]}


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def with_plugin(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A server that finds the plugin as if it had been installed into its environment."""
    store = request.getfixturevalue("postgres").database() if request.param == "postgresql" else request.param
    site = tmp_path_factory.mktemp("site")
    copy = tmp_path_factory.mktemp("plugin")
    for path in EXAMPLE.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    build = "from setuptools import setup; setup()"
    command = [sys.executable, "-c", build, "-q", "install_lib", "-d", str(site), "install_egg_info", "-d", str(site)]
    subprocess.run(command, cwd=copy, check=True, capture_output=True, timeout=100)
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(site), before)))
    try:
        with ChatdServer.start(tmp_path_factory.mktemp("server"), "--store", store) as server:
            yield server
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


async def poll(ann: Peer, cid: int, content: object) -> Any:
    return await ann.act(cid, Kind.TYPED, name="poll", content=msgpack.packb(content))


async def test_the_plugin_decides_what_a_poll_is(with_plugin: ChatdServer) -> None:
    async with peer(with_plugin, "ann") as ann, peer(with_plugin, "bob") as bob:
        cid = await ann.group([bob.user])
        ack = await poll(ann, cid, POLL)
        assert ack.op == Op.SEND_ACK, ack
        pushed = (await bob.delivered(cid, ack["seq"]))[-1]
        assert msgpack.unpackb(pushed["payload"][1 + len("poll") :]) == POLL
        for wrong, why in (
            ({"question": "", "choices": ["a", "b"]}, "content.question has at least 1"),
            ({**POLL, "choices": []}, "content.choices has at least 2"),
            ({**POLL, "choices": ["a", 5]}, "content.choices[1] is of type"),
            ({**POLL, "anonymous": True}, "content has no 'anonymous'"),
            ({**POLL, "choices": ["a", "a"]}, "two choices are the same"),
        ):
            nak = await poll(ann, cid, wrong)
            assert (nak.op, nak["code"]) == (Op.SEND_NAK, ErrorCode.BAD_REQUEST)
            assert nak["text"].startswith("poll: ")
            assert why in nak["text"]
        unknown = await ann.act(cid, Kind.TYPED, name="quiz", content=b"")
        assert unknown["code"] == ErrorCode.UNSUPPORTED
        (kind,) = (await bob.call(Method.KIND_LIST))[1]
        assert (kind[0], json.loads(kind[1])["required"]) == ("poll", ["question", "choices"])


def test_what_is_registered_is_listed(with_plugin: ChatdServer) -> None:
    command = [sys.executable, "-m", "chatd", "kinds", "--as", "bob", "--data", str(with_plugin.data), "--json"]
    listed = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    assert [json.loads(line)["name"] for line in listed.splitlines()] == ["poll"]
