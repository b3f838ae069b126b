"""The native core and the model in Python on the same scripts: same ring records, same batches, same upcalls."""

import random
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.fakehub import FakeHub
from support.fakeshard import FakeShard, Session, varint

from chatd._native import HubCore
from chatd.hub.core_settings import HubCoreSettings
from chatd.hub.reference import ReferenceHubCore
from chatd.hub.rights import ROLES
from chatd.wire.schema import Feature, Right

USERS = range(1, 5)
DEVICES = {11: 1, 12: 1, 21: 2, 31: 3, 41: 4, 99: 2}
CIDS = range(1, 5)
SHARDS = 2
SMALL = HubCoreSettings(
    session_epoch_base=50,
    ring_reserve_bytes=1024,
    tail_records_max=120,
    parked_records_max=6,
    devices_online_max=2,
    subscriptions_max=2,
    receipt_members_max=3,
)
REPLACING = replace(SMALL, devices_online_max=1, devices_online_replace=True)
RATED = replace(SMALL, sends_per_s=1, sends_burst=2, amplification_max=1, amplification_ms=9000)


@dataclass
class World:
    """One core with its main database, shards and what its clients know."""

    hub: FakeHub
    shards: list[FakeShard]
    live: dict[int, Session]
    handle: int = 100
    epoch: int = 1


def words(role: int, rights: int) -> tuple[int, ...]:
    return tuple(int(rights) if code == role else 0 for code in range(ROLES))


def build(make: Any, capacity: int, limits: HubCoreSettings) -> World:
    hub = FakeHub(make, limits)
    for device, user in DEVICES.items():
        if device != 99:
            hub.person(user, *[other for other, owner in DEVICES.items() if owner == user and other != 99])
    hub.conversation(1, 1, 2)
    hub.conversation(2, 1, 2, 3, 4)
    hub.conversation(3, 3, kind=3, denied=words(1, Right.WRITE))
    return World(hub, [FakeShard(hub.core, index, capacity=capacity) for index in range(SHARDS)], {})


def session(world: World, device: int) -> Session:
    """The live session, or one that nobody has."""
    return world.live.get(device, Session(9, DEVICES[device], device, 9))


def shard_of(world: World, device: int) -> FakeShard:
    return world.shards[world.live[device].handle % SHARDS if device in world.live else 0]


class Steps:
    """What a script can do. Every method does the same to whichever core is behind the world."""

    @staticmethod
    def login(world: World, device: int, shard: int, token_epoch: int) -> None:
        world.handle += SHARDS
        handle = world.handle // SHARDS * SHARDS + shard
        features = Feature.RECEIPTS | (Feature.LITE if device == 12 else Feature.STREAMS)
        world.shards[shard].login(handle, DEVICES[device], device, token_epoch=token_epoch, features=features)

    @staticmethod
    def mark(world: World, device: int, cid: int, cseq: int) -> None:
        shard_of(world, device).mark(session(world, device), cid, cseq)

    @staticmethod
    def close(world: World, device: int) -> None:
        shard_of(world, device).closed(session(world, device))

    @staticmethod
    def send(world: World, device: int, cseq: int, cid: int, kind: int, size: int, flags: int) -> None:
        reply_to = b"\x03\x02\x01" + bytes([cseq % 9])
        mentions = b"\x04\x06\x02\x00\x00"
        payload = (b"", reply_to, mentions)[flags] + bytes(size)
        flags = flags and 1
        shard_of(world, device).send(session(world, device), cseq, cid, payload, kind=kind, flags=flags)

    @staticmethod
    def skip(world: World, device: int, cseq: int) -> None:
        shard_of(world, device).skip(session(world, device), cseq)

    @staticmethod
    def position(world: World, user: int, cid: int, delivered: int, read: int) -> None:
        world.shards[0].position(user, cid, delivered, read)

    @staticmethod
    def subscribe(world: World, device: int, cid: int, topics: int) -> None:
        reattach = (device + cid) % 3 == 0
        shard_of(world, device).subscribe(session(world, device), cid, topics, reattach=reattach)

    @staticmethod
    def unsubscribe(world: World, device: int, cid: int) -> None:
        shard_of(world, device).unsubscribe(session(world, device), cid)

    @staticmethod
    def call(world: World, device: int, cid: int) -> None:
        shard_of(world, device).call(session(world, device), 0xA2, varint(cid))

    @staticmethod
    def change(world: World, cid: int, user: int, join: bool) -> None:
        """A membership change as a method makes it."""
        core = world.hub.core
        found = core.intervals(cid, user)
        if found is None:
            return
        seq = core.stage_event(cid, 1, 33 if join else 34, b"x", False)
        if join:
            core.stage_member(cid, user, 1, seq, 0)
        elif found and found[-1][3] == 0:
            core.stage_member(cid, user, found[-1][1], found[-1][2], seq)
            core.revoke(user, cid)

    @staticmethod
    def rules(world: World, cid: int, flags: int, slow_mode_s: int, role: int, denied: int) -> None:
        if world.hub.core.conversation(cid) is not None:
            world.hub.core.change_rules(cid, flags, slow_mode_s, words(role, denied))

    @staticmethod
    def mute(world: World, cid: int, user: int, seconds: int) -> None:
        if world.hub.core.conversation(cid) is not None:
            world.hub.core.change_mute(cid, user, seconds and world.hub.now_ms // 1000 + seconds)

    @staticmethod
    def role_rights(world: World, role: int, rights: int) -> None:
        world.hub.core.put_role_rights(tuple(rights if code == role else 0xFFD for code in range(ROLES)))

    @staticmethod
    def method(world: World, cid: int, user: int, seq: int) -> None:
        world.hub.core.stage_row(b"row" * seq)
        if world.hub.core.conversation(cid) is not None:
            world.hub.core.stage_position(cid, user, seq, seq)

    @staticmethod
    def notify(world: World, user: int, size: int, but_device: int) -> None:
        world.hub.core.notify(user, size.to_bytes(2, "big") + bytes((0x14, 0)) + bytes(size), but_device)

    @staticmethod
    def watch(world: World, user: int, on: bool) -> None:
        world.hub.core.watch(user, on)

    @staticmethod
    def followers(world: World, cid: int, topics: int, size: int, device: int) -> None:
        """A frame for those who follow, but for one of them."""
        frame = size.to_bytes(2, "big") + bytes((0x12, 0)) + bytes(size)
        live = session(world, device)
        world.hub.core.to_followers(cid, topics, frame, live.handle % SHARDS, live.handle)

    @staticmethod
    def streaming(world: World, cid: int, on: bool) -> None:
        if world.hub.core.conversation(cid) is not None:
            world.hub.core.streaming(cid, on)

    @staticmethod
    def redact(world: World, cid: int, seq: int) -> None:
        world.hub.core.stage_redact(cid, seq, 1)

    @staticmethod
    def count(world: World, cid: int, user: int, seq: int) -> None:
        world.hub.core.put_read_count(cid, user, seq, seq)

    @staticmethod
    def revoke_tokens(world: World, user: int, epoch: int) -> None:
        world.hub.users[user] = (epoch, 0)
        world.hub.core.put_user(user, epoch, 0)

    @staticmethod
    def poll(world: World) -> None:
        world.hub.poll()

    @staticmethod
    def commit(world: World) -> None:
        world.hub.commit()

    @staticmethod
    def reject(world: World) -> None:
        world.hub.core.reject(501, 100)

    @staticmethod
    def fold(world: World, back: int) -> None:
        world.hub.core.freed(max(0, world.hub.core.committed_pos - back))

    @staticmethod
    def wait(world: World, ms: int) -> None:
        world.hub.now_ms += ms - 300
        world.hub.tick_ms += ms

    @staticmethod
    def hold_answers(world: World, hold: bool) -> None:
        """The main database is slow: needs stay open until it is not."""
        world.hub.answers = not hold
        if not hold:
            waiting, world.hub.upcalls = world.hub.upcalls, []
            world.hub.upcalls = [upcall for upcall in waiting if not world.hub.answer(upcall)]

    @staticmethod
    def relink(world: World, shard: int, attach: bool) -> None:
        """A fresh link: of a new shard, or of one that outlived something and knows its sessions."""
        world.epoch += 1
        old = world.shards[shard]
        fresh = FakeShard(world.hub.core, shard, epoch=world.epoch, capacity=old.to_hub.capacity, received=None)
        world.shards[shard] = fresh
        fresh.received(world.hub.core.committed_pos // 2)
        mine = {device: live for device, live in world.live.items() if live.handle % SHARDS == shard}
        for device, live in mine.items():
            if attach:
                epoch = live.epoch % 3
                fresh.login(live.handle, live.user, device, token_epoch=epoch, session_epoch=live.epoch, reattach=True)
            else:
                del world.live[device]
        fresh.ready()


small = st.integers(0, 12)
device_ids = st.sampled_from(sorted(DEVICES))
SCRIPT = st.lists(
    st.one_of(
        st.tuples(st.just("login"), device_ids, st.integers(0, SHARDS - 1), st.integers(0, 2)),
        st.tuples(
            st.just("send"),
            device_ids,
            st.integers(0, 200) | st.integers(1, 6),
            st.integers(0, 4) | st.just(1),
            st.sampled_from([1, 1, 1, 2, 16, 5, 32]),
            st.sampled_from([0, 5, 90, 600]),
            st.sampled_from([0, 0, 0, 1, 2]),
        ),
        st.tuples(st.just("send"), device_ids, st.integers(1, 6), st.just(1), st.just(1), small, st.just(0)),
        st.tuples(st.just("skip"), device_ids, small),
        st.tuples(st.just("mark"), device_ids, st.sampled_from(CIDS), small),
        st.tuples(st.just("position"), st.sampled_from(USERS), st.sampled_from(CIDS), small, small),
        st.tuples(st.just("subscribe"), device_ids, st.sampled_from(CIDS), st.integers(0, 7)),
        st.tuples(st.just("unsubscribe"), device_ids, st.sampled_from(CIDS)),
        st.tuples(st.just("call"), device_ids, st.sampled_from(CIDS)),
        st.tuples(st.just("change"), st.sampled_from(CIDS), st.sampled_from(USERS), st.booleans()),
        st.tuples(st.just("method"), st.sampled_from(CIDS), st.sampled_from(USERS), small),
        st.tuples(
            st.just("rules"),
            st.sampled_from(CIDS),
            st.sampled_from([0, 0, 2]),
            st.sampled_from([0, 1, 3]),
            st.integers(1, 2),
            st.sampled_from([0, 1, 2]),
        ),
        st.tuples(st.just("mute"), st.sampled_from(CIDS), st.sampled_from(USERS), st.sampled_from([0, 1, 4])),
        st.tuples(st.just("role_rights"), st.integers(1, 2), st.sampled_from([0, 1, 0xFFF])),
        st.tuples(st.just("count"), st.sampled_from(CIDS), st.sampled_from(USERS), small),
        st.tuples(st.just("notify"), st.sampled_from(USERS), small, device_ids),
        st.tuples(st.just("watch"), st.sampled_from(USERS), st.booleans()),
        st.tuples(st.just("followers"), st.sampled_from(CIDS), st.sampled_from([2, 4]), small, device_ids),
        st.tuples(st.just("streaming"), st.sampled_from(CIDS), st.booleans()),
        st.tuples(st.just("redact"), st.sampled_from(CIDS), small),
        st.tuples(st.just("revoke_tokens"), st.sampled_from(USERS), st.integers(0, 3)),
        st.tuples(st.just("close"), device_ids),
        st.tuples(st.just("poll")),
        st.tuples(st.just("poll")),
        st.tuples(st.just("commit")),
        st.tuples(st.just("commit")),
        st.tuples(st.just("reject")),
        st.tuples(st.just("fold"), st.integers(0, 20)),
        st.tuples(st.just("wait"), st.sampled_from([1, 400, 1000, 5000])),
        st.tuples(st.just("hold_answers"), st.booleans()),
        st.tuples(st.just("relink"), st.integers(0, SHARDS - 1), st.booleans()),
        st.tuples(st.just("read"), st.integers(0, SHARDS - 1)),
        st.tuples(st.just("read"), st.integers(0, SHARDS - 1)),
    ),
    max_size=90,
)


def observed(world: World) -> dict[str, Any]:
    core = world.hub.core
    return {
        "staged": core.batch(),
        "upcalls": world.hub.upcalls,
        "judged": world.hub.seqs,
        "journal": world.hub.journal,
        "conversations": [core.conversation(cid) for cid in CIDS],
        "members": [core.members(cid) for cid in CIDS],
        "rights": [(core.rights(cid, user), core.muted_until_s(cid, user)) for cid in CIDS for user in USERS],
        "present": [core.present(cid, 1, 2) for cid in CIDS],
        "receipts": [core.receipt_counts(cid, seq, 1) for cid in CIDS for seq in (1, 3)],
        "sessions": [core.sessions(user) for user in USERS],
        "floors": [core.tail_floor(cid, 0) for cid in CIDS],
        "last": [core.last_event(cid) for cid in CIDS],
        "pages": [core.tail_events(cid, core.tail_floor(cid, 0), 99, 9, 700, 200, 2, False) for cid in CIDS],
    }


def learn(worlds: list[World]) -> None:
    """Clients get to know their sessions: the same ones in both worlds, or the scripts would part."""
    for device, user in DEVICES.items():
        found = [s for s in worlds[0].hub.core.sessions(user) if s[2] == device]
        for world in worlds:
            world.live.pop(device, None)
            for _, handle, _, epoch in found:
                world.live[device] = Session(handle, user, device, epoch)


def rebuild(worlds: list[World]) -> None:
    """Both cores again from their journals."""
    for world, make in zip(worlds, (HubCore, ReferenceHubCore), strict=True):
        after = FakeHub(make, SMALL)
        for batch in world.hub.journal:
            after.core.replay(*batch)
        after.users, after.devices, after.conversations = world.hub.users, world.hub.devices, world.hub.conversations
        after.rules = world.hub.rules
        for cid in CIDS:
            after.answer(("need_conversation", cid))
        world.hub = after
        world.shards = [FakeShard(after.core, index) for index in range(SHARDS)]


def busy_script(seed: int, steps: int, reads: float) -> list[tuple[Any, ...]]:
    """Mostly traffic of live devices in order, now and then something else: what hypothesis rarely strings together."""
    chance = random.Random(seed)
    cseqs = dict.fromkeys(DEVICES, 0)
    script: list[tuple[Any, ...]] = []
    for _ in range(steps):
        device = chance.choice([11, 11, 12, 21, 21, 31, 41])
        cid, user, small = chance.choice([1, 1, 2, 2, 3, 4]), chance.choice(USERS), chance.randrange(40)
        cseqs[device] += 1
        step = chance.choices(
            [
                (
                    "send",
                    device,
                    cseqs[device],
                    cid,
                    1,
                    chance.choice([0, 5, 90, 700]),
                    chance.choice([0, 0, 0, 0, 1, 2]),
                ),
                ("send", device, max(1, cseqs[device] - chance.choice([1, 2, 150])), cid, 1, 5, 0),
                ("skip", device, max(1, cseqs[device] - 2)),
                ("poll",),
                ("commit",),
                ("read", chance.randrange(SHARDS)),
                ("position", user, cid, small, chance.randrange(small + 1)),
                ("subscribe", device, cid, 7),
                ("wait", chance.choice([10, 400, 1000])),
                ("fold", chance.choice([5, 30, 60])),
                ("login", device, chance.randrange(SHARDS), 5),
                ("reject",),
                ("change", cid, user, chance.random() < 0.6),
                ("count", cid, user, small),
                ("method", cid, user, small),
                ("close", device),
                ("unsubscribe", device, cid),
                ("relink", chance.randrange(SHARDS), chance.random() < 0.7),
                ("hold_answers", chance.random() < 0.3),
                ("notify", user, small, device),
                ("watch", user, chance.random() < 0.8),
                ("redact", cid, small),
                ("rules", cid, 0, chance.choice([0, 1, 2]), 1, chance.choice([0, 0, 1])),
                ("mute", cid, user, chance.choice([0, 1])),
                ("followers", cid, 4, 20 * small, device),
                ("streaming", cid, chance.random() < 0.8),
            ],
            [30, 4, 2, 20, 14, reads, 8, 4, 4, 3, 2, 0.5, 3, 1, 1, 0.5, 1, 0.5, 1, 2, 1, 2, 0.7, 0.7, 3, 1],
        )[0]
        script.append(step)
    return script


@pytest.mark.parametrize(("capacity", "reads"), [(1 << 20, 8), (8192, 0.7)])
@pytest.mark.parametrize("seed", range(12))
def test_busy_scripts_say_the_same(capacity: int, reads: float, seed: int) -> None:
    compare(capacity, busy_script(seed, 600, reads))


@pytest.mark.parametrize("seed", range(4))
def test_busy_scripts_replace_the_same_devices(seed: int) -> None:
    compare(1 << 20, busy_script(seed, 600, 8), REPLACING)


@pytest.mark.parametrize("counter", ["rate_limited", "slowed"])
@pytest.mark.parametrize("seed", range(4))
def test_busy_scripts_cost_the_same(counter: str, seed: int) -> None:
    """With one limit of users at a time, which these scripts exceed again and again."""
    limits = replace(RATED, amplification_max=0) if counter == "rate_limited" else replace(RATED, sends_per_s=0)
    assert compare(1 << 20, busy_script(seed, 600, 8), limits)[counter]


@pytest.mark.parametrize("capacity", [1 << 20, 8192])
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(script=SCRIPT, rated=st.booleans())
def test_any_script_says_the_same(capacity: int, script: list[tuple[Any, ...]], rated: bool) -> None:
    compare(capacity, script, RATED if rated else SMALL)


def compare(capacity: int, script: list[tuple[Any, ...]], limits: HubCoreSettings = SMALL) -> dict[str, int]:
    """Returns the counters of the native core after the script."""
    worlds = [build(HubCore, capacity, limits), build(ReferenceHubCore, capacity, limits)]
    for device, shard in ((11, 0), (21, 1), (31, 0)):
        for world in worlds:
            Steps.login(world, device, shard, 3)
            world.hub.run()
    learn(worlds)
    for name, *arguments in script:
        if name == "read":
            native, reference = (world.shards[arguments[0]].read_raw() for world in worlds)
            assert native == reference
            continue
        if any(shard.to_hub.free_bytes < 2000 for shard in worlds[0].shards) and name not in {
            "poll",
            "commit",
            "reject",
        }:
            continue
        for world in worlds:
            getattr(Steps, name)(world, *arguments)
        native, reference = map(observed, worlds)
        assert native == reference, name
        learn(worlds)
    for world in worlds:
        world.hub.run()
    for shard in range(SHARDS):
        assert worlds[0].shards[shard].read_raw() == worlds[1].shards[shard].read_raw()
    counters: dict[str, int] = worlds[0].hub.core.counters()
    rebuild(worlds)
    for device in (11, 21):
        for world in worlds:
            Steps.login(world, device, 0, 5)
            world.hub.run()
    learn(worlds)
    for world in worlds:
        Steps.send(world, 11, 3, 1, 1, 5, 0)
        Steps.send(world, 21, 300, 2, 1, 5, 0)
        world.hub.run()
    native, reference = map(observed, worlds)
    assert native == reference
    assert worlds[0].shards[0].read_raw() == worlds[1].shards[0].read_raw()
    return counters
