"""Contract, section 3 and 5.3, with the rates that people keep: refused for now, and what waits behind a refusal."""

from collections.abc import Iterator

import pytest
import trio
from support.live import RETRYABLE, SKIPPED, Peer
from support.places import Place

from chatd.testing import ChatdServer
from chatd.wire.frame import Frame
from chatd.wire.schema import ErrorCode, Op

BURST = 5


@pytest.fixture(params=["inline", "two shards"])
def slow(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    rates = ["--set", "session.sends_per_s=2", "--set", f"session.sends_burst={BURST}"]
    flags = rates if request.param == "inline" else [*rates, "--shards", "2"]
    with ChatdServer.start(tmp_path_factory.mktemp("slow"), *flags, inline=request.param == "inline") as server:
        yield Place(server, 1 if request.param == "inline" else 2, "slow")


async def send_too_many(who: Peer, cid: int) -> list[Frame]:
    """Answers to twice the burst, in order of cseq."""
    cseqs = [await who.post(cid, b"%d" % number) for number in range(2 * BURST)]
    return [await who.answer(cseq) for cseq in cseqs]


async def test_what_follows_a_refusal_waits_until_it_is_stored_or_skipped(slow: Place) -> None:
    async with slow.peer("ann") as ann:
        cid, other = await ann.group(), await ann.group()
        answers = await send_too_many(ann, cid)
        refused = [answer for answer in answers if answer.op == Op.SEND_NAK]
        assert len(answers) - len(refused) in {BURST, BURST + 1}
        assert all(answer.flags & RETRYABLE for answer in refused)
        assert refused[0]["code"] == ErrorCode.RATE_LIMITED
        assert refused[0]["retry_after_ms"] > 0
        assert {answer["code"] for answer in refused[1:]} <= {ErrorCode.OUT_OF_ORDER, ErrorCode.RATE_LIMITED}
        assert await stored(ann, cid) == [b"%d" % number for number in range(len(answers) - len(refused))]
        last = refused[-1]["cseq"]
        await until_stored(ann, other, b"other conversations go on", last + 1)
        late = await ann.send(cid, b"%d" % (2 * BURST - 1), last)
        assert (late.op, late.flags & RETRYABLE) == (Op.SEND_NAK, RETRYABLE)
        await ann.put(Op.SKIP, cseq=refused[0]["cseq"])
        assert (await ann.answer(refused[0]["cseq"])).flags & SKIPPED
        for answer in refused[1:]:
            number = answer["cseq"] - answers[0]["cseq"]
            await until_stored(ann, cid, b"%d" % number, answer["cseq"])
        skipped = b"%d" % (refused[0]["cseq"] - answers[0]["cseq"])
        assert await stored(ann, cid) == [b"%d" % n for n in range(2 * BURST) if b"%d" % n != skipped]


async def stored(who: Peer, cid: int) -> list[bytes]:
    return [payload for _, payload in await who.log(cid, 2)]


async def until_stored(who: Peer, cid: int, payload: bytes, cseq: int) -> None:
    while (answer := await who.send(cid, payload, cseq)).op == Op.SEND_NAK:
        assert answer.flags & RETRYABLE, answer
        await trio.sleep(answer["retry_after_ms"] / 1000)
