"""What a device has of each conversation, and what it has to ask for: the client's side of gap repair."""

from dataclasses import dataclass, field

from chatd.wire.frame import encode, make
from chatd.wire.schema import Op
from chatd.wire.varint import encode as varint

ASKED_MAX = 2
"""PULLs and SYNCs that may be unanswered."""


@dataclass(slots=True)
class Ask:
    """One PULL under way."""

    from_seq: int
    to_seq: int
    begun_ms: int
    seqs: list[int] = field(default_factory=list)


@dataclass(slots=True)
class Positions:
    """at: the highest seq up to which everything is there, by cid. It survives the device's connections, `asked` and
    `sync_wanted` do not.
    """

    at: dict[int, int] = field(default_factory=dict)
    held: dict[int, dict[int, str]] = field(default_factory=dict)  # behind a gap
    wanted: dict[int, tuple[int, int]] = field(default_factory=dict)
    asked: dict[int, Ask] = field(default_factory=dict)
    cursor: bytes = b""
    next_cursor: bytes | None = None
    sync_wanted: bool = True
    sync_asked: bool = False

    def connection_lost(self) -> None:
        """What was wanted is found again by SYNC from the old cursor."""
        self.wanted.clear()
        self.asked.clear()
        self.next_cursor = None
        self.sync_wanted, self.sync_asked = True, False

    def hold(self, cid: int, seq: int, content: str) -> list[tuple[int, str]]:
        """The events that can be applied now, in order."""
        position = self.at.setdefault(cid, 0)
        if seq <= position:
            return []
        if seq > position + 1:
            self.held.setdefault(cid, {})[seq] = content
            return []
        self.at[cid] = seq
        return [(seq, content), *self._release(cid)]

    def _release(self, cid: int) -> list[tuple[int, str]]:
        """What was held and follows on what is there."""
        held = self.held.get(cid)
        if held is None:
            return []
        position, ready = self.at[cid], []
        while (position + 1) in held:
            position += 1
            ready.append((position, held.pop(position)))
        self.at[cid] = position
        if not held:
            del self.held[cid]
        return ready

    def want(self, cid: int, to_seq: int) -> None:
        from_seq = self.at.get(cid, 0) + 1
        known = self.wanted.get(cid)
        if known is not None:
            to_seq = max(to_seq, known[1]) if to_seq and known[1] else 0
        self.wanted[cid] = (from_seq, to_seq)

    def want_gaps(self) -> None:
        for cid, held in self.held.items():
            if cid not in self.wanted and cid not in self.asked:
                self.want(cid, min(held) - 1)

    def next_asks(self, now_ms: int, limit: int) -> bytes:
        """Frames that ask for what is wanted, as far as more may be asked."""
        out = b""
        if self.sync_wanted and not self.sync_asked and len(self.asked) < ASKED_MAX:
            self.sync_wanted, self.sync_asked = False, True
            out += encode(make(Op.SYNC, cursor=self.next_cursor or self.cursor, limit=0))
        for cid in list(self.wanted):
            if len(self.asked) + self.sync_asked >= ASKED_MAX:
                break
            if cid in self.asked:
                continue
            from_seq, to_seq = self.wanted.pop(cid)
            self.asked[cid] = Ask(from_seq, to_seq, now_ms)
            body = varint(cid) + varint(from_seq) + varint(to_seq) + varint(limit)
            out += len(body).to_bytes(2, "big") + bytes((Op.PULL, 0)) + body
        return out

    @property
    def idle(self) -> bool:
        return not (self.wanted or self.asked or self.sync_asked or self.sync_wanted)

    @property
    def at_rest(self) -> bool:
        """Nothing is asked, to be asked, or to be kept."""
        asks = self.wanted or self.asked or self.sync_asked or self.sync_wanted
        return not asks and not self.held and self.next_cursor is None

    def keep_cursor(self) -> None:
        """Everything that the pages of a SYNC named is there."""
        if self.next_cursor is not None:
            self.cursor, self.next_cursor = self.next_cursor, None

    def on_page(self, cursor: bytes, entries: tuple[dict[str, int], ...], more: bool) -> None:
        self.sync_asked = False
        self.sync_wanted = more or self.sync_wanted
        self.next_cursor = cursor
        for entry in entries:
            if entry["head_seq"] > self.at.get(entry["cid"], 0):
                self.want(entry["cid"], entry["head_seq"])

    def on_end(self, cid: int, next_seq: int, head_seq: int) -> tuple[Ask | None, list[tuple[int, str]]]:
        """The answer to a PULL is complete: the ask when it was answered to its end, and what can be applied now."""
        ask = self.asked.pop(cid, None)
        if ask is None:
            return None, []
        if next_seq:
            known = self.wanted.get(cid)
            to_seq = ask.to_seq if known is None else (max(ask.to_seq, known[1]) if ask.to_seq and known[1] else 0)
            self.wanted[cid] = (next_seq, to_seq)
            return None, []
        end = ask.to_seq or head_seq
        if self.at.setdefault(cid, 0) < end:
            self.at[cid] = end
            held = self.held.get(cid, {})
            for seq in [seq for seq in held if seq <= end]:
                del held[seq]
            if not held:
                self.held.pop(cid, None)
        return ask, self._release(cid)
