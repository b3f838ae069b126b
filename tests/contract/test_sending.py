"""Contract, sections 2 to 5, as a client sees them: what an answer to SEND means, and in which order events stand."""

import pytest
import trio
from support.live import DUP, HISTORY, RETRYABLE, SKIPPED, Peer
from support.places import Place

from chatd.wire.frame import Frame
from chatd.wire.schema import ErrorCode, Kind, Method, Op


def place(frame: Frame) -> tuple[int, int, int]:
    return frame["cid"], frame["seq"], frame["time"]


# ---- 2 What SEND_ACK means
async def test_reads_on_another_shard_show_an_event_from_its_ack_on(at: Place) -> None:
    async with at.people("ann", "bob") as (ann, bob):
        cid = await ann.group([bob.user])
        for number in range(25):
            payload = b"%d" % number
            ack = await ann.send(cid, payload)
            assert ack.op == Op.SEND_ACK
            events, end = await bob.pull(cid, ack["seq"])
            assert events == [(ack["seq"], payload)]
            assert end["head_seq"] == ack["seq"]
            entry = await bob.synced(cid)
            assert entry is not None
            assert (entry["head_seq"], entry["last_preview"]) == (ack["seq"], payload)


async def test_seq_and_content_stay(at: Place) -> None:
    async with at.people("ann", "bob") as (ann, bob):
        cid = await ann.group([bob.user])
        for number in range(10):
            await ann.say(cid, b"%d" % number)
        first = await bob.pull_frames(cid)
        await trio.sleep(0.3)  # long enough for a fold
        assert (await ann.pull_frames(cid))[0] == (await bob.pull_frames(cid))[0] == first[0]


async def test_an_event_is_pushed_to_every_connected_device_of_the_entitled(at: Place) -> None:
    async with at.people("ann", "bob", "carl") as (ann, bob, carl), at.peer("bob", shard=2) as second:
        cid = await ann.group([bob.user, carl.user])
        seq = await ann.say(cid, b"all of you")
        for reader in (bob, second, carl):
            pushed = (await reader.delivered(cid, seq))[-1]
            assert (pushed["payload"], pushed["sender"], pushed["kind"]) == (b"all of you", ann.user, Kind.TEXT)


# ---- 3 Refusal
@pytest.mark.parametrize(
    ("payload", "kind", "code"),
    [
        (b"\xff", Kind.TEXT, ErrorCode.BAD_REQUEST),
        (bytes(8193), Kind.TEXT, ErrorCode.TOO_LARGE),
        (bytes(32_768), Kind.CUSTOM, ErrorCode.TOO_LARGE),
        (b"", Kind.MEMBERS_ADDED, ErrorCode.UNSUPPORTED),
        (b"", 15, ErrorCode.UNSUPPORTED),
    ],
)
async def test_final_refusals_are_not_stored(at: Place, payload: bytes, kind: Kind, code: ErrorCode) -> None:
    async with at.peer("ann") as ann:
        cid = await ann.group()
        nak = await ann.send(cid, payload, kind=kind)
        assert (nak.op, nak["code"], nak.flags & RETRYABLE) == (Op.SEND_NAK, code, 0)
        assert len(await ann.log(cid)) == 1
        after = await ann.send(cid)
        assert after["seq"] == 2, "a final refusal holds up nothing"


async def test_a_cseq_with_other_content_is_refused_for_good(at: Place) -> None:
    async with at.peer("ann") as ann:
        cid, other = await ann.group(), await ann.group()
        ack = await ann.send(cid, b"first")
        for where, payload, kind in ((cid, b"other", 1), (other, b"first", 1), (cid, b"first", 2)):
            nak = await ann.send(where, payload, ack["cseq"], Kind(kind))
            assert (nak.op, nak["code"], nak.flags & RETRYABLE) == (Op.SEND_NAK, ErrorCode.CSEQ_REUSE, 0)
        assert [payload for _, payload in (await ann.log(cid))[1:]] == [b"first"]
        assert len(await ann.log(other)) == 1


# ---- 4 Exactly one effect
async def test_a_retry_gets_the_original_answer_and_stores_nothing(at: Place) -> None:
    async with at.people("ann", "bob") as (ann, bob):
        cid = await ann.group([bob.user])
        ack = await ann.send(cid, b"once")
        await ann.say(cid, b"between")
        for _ in range(3):
            again = await ann.send(cid, b"once", ack["cseq"])
            assert again.op == Op.SEND_ACK
            assert (place(again), again.flags & DUP) == (place(ack), DUP)
        async with at.peer("ann", shard=1, device=ann.device) as back:
            again = await back.send(cid, b"once", ack["cseq"])
            assert (place(again), again.flags & DUP) == (place(ack), DUP)
        assert [payload for _, payload in (await bob.log(cid))[ack["seq"] - 1 :]] == [b"once", b"between"]
        pushed = await bob.delivered(cid, ack["seq"] + 1)
        assert [frame["seq"] for frame in pushed] == list(range(1, ack["seq"] + 2))


async def test_cseqs_of_two_devices_are_different_things(at: Place) -> None:
    async with at.people("ann", "ann") as (one, two):
        cid = await one.group()
        first, second = await one.send(cid, b"same", 1), await two.send(cid, b"same", 1)
        assert (first["seq"], second["seq"]) == (2, 3)


async def test_welcome_brings_the_highest_stored_cseq(at: Place) -> None:
    async with at.peer("ann", shard=0) as ann:
        cid = await ann.group()
        for cseq in (1, 2, 7):
            await ann.send(cid, cseq=cseq)
        refused = await ann.send(0xFFFF_FFFF, cseq=9)
        assert refused["code"] == ErrorCode.NOT_FOUND
        for shard in (1, 2, 0):
            async with at.peer("ann", shard=shard, device=ann.device) as back:
                assert back.welcome["cseq_stored"] == 7


async def test_welcome_after_a_takeover_counts_what_the_old_connection_got_stored(at: Place) -> None:
    async with at.peer("ann", shard=0) as old:
        cid = await old.group()
        for _ in range(40):
            await old.post(cid)
        async with at.peer("ann", shard=1, device=old.device) as new:
            stored = len(await new.log(cid)) - 1
            assert new.welcome["cseq_stored"] == stored
            assert (await new.send(cid))["seq"] == stored + 2


# ---- 5 Order
async def test_an_event_sent_after_another_ones_ack_stands_behind_it(at: Place) -> None:
    async with at.people("ann", "bob", "carl") as people:
        cid = await people[0].group([each.user for each in people[1:]])
        seqs = [await people[number % 3].say(cid) for number in range(30)]
        assert seqs == sorted(seqs)


async def test_all_readers_see_one_sequence_and_time_never_falls(at: Place) -> None:
    async with at.people("ann", "bob", "carl") as people:
        cid = await people[0].group([each.user for each in people[1:]])

        async def write(who: Peer) -> None:
            cseqs = [await who.post(cid, b"%s %d" % (who.name.encode(), number)) for number in range(30)]
            for cseq in cseqs:
                assert (await who.answer(cseq)).op == Op.SEND_ACK

        async with trio.open_nursery() as nursery:
            for each in people:
                nursery.start_soon(write, each)
        logs = [(await each.pull_frames(cid))[0] for each in people]
        assert logs[0] == logs[1] == logs[2]
        assert [frame["seq"] for frame in logs[0]] == list(range(1, 93))
        times = [frame["time"] for frame in logs[0]]
        assert times == sorted(times)
        for each in people:
            mine = [frame["payload"] for frame in logs[0][2:] if frame["sender"] == each.user]
            assert mine == [b"%s %d" % (each.name.encode(), number) for number in range(30)]
            await each.barrier()
            pushed = [frame["seq"] for frame in each.take(Op.DELIVER) if not frame.flags & HISTORY]
            assert pushed == [frame["seq"] for frame in logs[0] if frame["seq"] in pushed], "pushed in order"


async def test_a_skipped_cseq_is_never_stored_and_a_stored_one_never_skipped(at: Place) -> None:
    async with at.peer("ann") as ann:
        cid = await ann.group()
        stored = await ann.send(cid, cseq=1)
        await ann.put(Op.SKIP, cseq=1)
        assert place(again := await ann.answer(1)) == place(stored)
        assert again.flags & DUP
        await ann.put(Op.SKIP, cseq=2)
        skipped = await ann.answer(2)
        assert (skipped.flags, place(skipped)) == (SKIPPED, (0, 0, 0))
        late = await ann.send(cid, cseq=2)
        assert not (late.op == Op.SEND_ACK and late["seq"]), late
        assert (await ann.send(cid, cseq=3))["seq"] == stored["seq"] + 1


async def test_a_user_who_is_no_member_cannot_send_and_learns_nothing(at: Place) -> None:
    async with at.people("ann", "eve") as (ann, eve):
        cid = await ann.group()
        foreign, absent = await eve.send(cid), await eve.send(999_999_999)
        assert {(nak.op, nak["code"], nak.flags, nak["text"]) for nak in (foreign, absent)} == {
            (Op.SEND_NAK, ErrorCode.NOT_FOUND, 0, foreign["text"])
        }
        direct = (await ann.call(Method.DIRECT_OPEN, {1: eve.user}))[1]
        assert (await eve.send(direct)).op == Op.SEND_ACK
