"""A store with a random but consistent life, and a model that knows how it stood after every commit."""

import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from chatd.storage import journal_codec as codec
from chatd.storage.backup.copy import one_moment
from chatd.storage.interface import row_record
from chatd.storage.portion import Portion
from chatd.storage.sqlite.folder import FoldSettings, SqliteFolder
from chatd.storage.sqlite.store import SqliteStore, StoreSettings

T0 = 1_760_000_000_000
CONVERSATIONS, DEVICES, USERS = 6, 4, 9
SMALL = StoreSettings(segment_bytes=16 * 1024, reserve_bytes=0, slack_bytes=0)
FOLD = FoldSettings(reserve_bytes=0, slack_bytes=0, segment_age_s=0, checkpoint_interval_s=0, kept_bytes_max=1 << 30)


class State(NamedTuple):
    """position: where the commit ends. events: (cid, seq) → body. members: (cid, user, join_seq) → leave_seq."""

    position: int
    time_ms: int
    heads: dict[int, int]
    events: dict[tuple[int, int], bytes]
    members: dict[tuple[int, int, int], int]


@dataclass
class World:
    directory: Path
    seed: int
    time_ms: int = T0
    heads: dict[int, int] = field(default_factory=dict)
    events: dict[tuple[int, int], bytes] = field(default_factory=dict)
    members: dict[tuple[int, int, int], int] = field(default_factory=dict)
    cseqs: dict[int, int] = field(default_factory=dict)
    history: list[State] = field(default_factory=list)
    fold_settings: FoldSettings = FOLD

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.store = SqliteStore.open(self.directory, SMALL)
        self.folder = SqliteFolder.open(self.directory, Portion, self.fold_settings)
        rows = [row_record("conversation", {"id": cid, "kind": 2}) for cid in range(1, CONVERSATIONS + 1)]
        rows += [row_record("device", {"id": device, "uid": device}) for device in range(1, DEVICES + 1)]
        self._commit([codec.encode_row(row) for row in rows], 0)

    def live(self, commits: int) -> None:
        """Commit, and fold now and then."""
        for _ in range(commits):
            self.time_ms += self.random.randint(1, 1000)
            self._commit([record for _ in range(self.random.randint(1, 12)) for record in self._step()], self.time_ms)
            if self.random.random() < 0.15:
                self.folder.fold_once()

    def fold(self) -> None:
        while self.folder.fold_once().records:
            pass
        self.folder.settle()

    def close(self) -> None:
        self.folder.close()
        self.store.close()

    def at(self, position: int) -> State:
        """After the last commit that ends there or before."""
        return max((state for state in self.history if state.position <= position), key=lambda state: state.position)

    def until(self, time_ms: int) -> State:
        """After the last commit before the first of a later time."""
        last = self.history[0]
        for state in self.history:
            if state.time_ms > time_ms:
                break
            last = state
        return last

    def _commit(self, records: list[bytes], time_ms: int) -> None:
        self.store.append(self.store.next_pos, len(records), b"".join(records))
        here = self.store.next_pos - 1
        self.history.append(State(here, time_ms, dict(self.heads), dict(self.events), dict(self.members)))

    def _step(self) -> list[bytes]:
        cid = self.random.randint(1, CONVERSATIONS)
        record = self._event(cid)
        user = self.random.randint(1, USERS)
        present = [key for key, leave in self.members.items() if key[:2] == (cid, user) and not leave]
        match self.random.randint(1, 4):
            case 1 if not present:
                self.members[cid, user, self.heads[cid]] = 0
                return [record, codec.encode_member(cid, user, self.heads[cid], 0, 1)]
            case 2 if present:
                self.members[present[0]] = self.heads[cid]
                return [record, codec.encode_member(*present[0], self.heads[cid], 1)]
            case _:
                return [record]

    def _event(self, cid: int) -> bytes:
        device = self.random.randint(1, DEVICES)
        cseq = self.cseqs[device] = self.cseqs.get(device, 0) + 1
        seq = self.heads[cid] = self.heads.get(cid, 0) + 1
        body = self.events[cid, seq] = self.random.randbytes(self.random.choice((5, 60, 900)))
        digest = self.random.getrandbits(64) - 2**63
        return codec.encode_event((cid, seq, self.time_ms, device, device, cseq, 1, seq, digest, body, 1))


def state_of(directory: Path) -> State:
    """What the main database of a data directory holds; time_ms is that of the newest event."""
    with one_moment(directory / "chatd.db") as moment:
        heads = dict(moment.execute("SELECT id, head_seq FROM conversation WHERE head_seq > 0"))
        events = {(cid, seq): body for cid, seq, body in moment.execute("SELECT cid, seq, body FROM event")}
        rows = moment.execute("SELECT cid, uid, join_seq, leave_seq FROM membership")
        members = {(cid, uid, join): leave for cid, uid, join, leave in rows}
        position = moment.execute("SELECT value FROM meta WHERE key = 'folded_pos'").get
        time_ms = moment.execute("SELECT ifnull(max(ts), 0) FROM event").get
    return State(position, time_ms, heads, events, members)
