"""The hub's loop and main database in a few lines: answers what the core needs, commits what it stages."""

from typing import Any

from chatd.hub.core_settings import HubCoreSettings
from support.fakeshard import Ack, Answer, FakeShard, Nak, Registered, Session, decode_answer

NOW_MS = 1_800_000_000_000


class FakeHub:
    """Owns a core. `users`, `devices`, `conversations`, `sent` are the main database; batches are kept in `journal`."""

    def __init__(self, make: Any, settings: HubCoreSettings | None = None, *, answers: bool = True) -> None:
        self.core = make(settings or HubCoreSettings())
        self.users: dict[int, tuple[int, int]] = {}
        self.devices: dict[int, tuple[int, int, int]] = {}
        self.conversations: dict[int, tuple[Any, ...]] = {}
        self.rules: dict[int, dict[str, Any]] = {}
        self.sent: dict[tuple[int, int], tuple[int, int, int, int]] = {}
        self.journal: list[tuple[int, int, bytes]] = []
        self.now_ms = NOW_MS
        self.tick_ms = 1000
        self.answers = answers
        self.upcalls: list[tuple[Any, ...]] = []
        self.seqs: list[int] = []
        """Where judged sends were staged."""

    def person(self, user: int, *devices: int) -> None:
        self.users[user] = (0, 0)
        for device in devices:
            self.devices[device] = (user, 0, 0)

    def conversation(self, cid: int, *users: int, kind: int = 2, flags: int = 0, role: int = 1, **rules: Any) -> None:
        """rules: slow_mode_s, denied, muted and spoke of put_conversation."""
        members = [(user, role, 1, 0, 0, 0, 0) for user in sorted(users)]
        self.conversations[cid] = (kind, flags, 0, 0, 0, 0, members)
        self.rules[cid] = rules

    def poll(self) -> list[tuple[Any, ...]]:
        """One poll; what it needs is answered, the rest is returned."""
        upcalls = self.core.poll(self.now_ms, self.tick_ms)
        rest = [upcall for upcall in upcalls if not (self.answers and self.answer(upcall))]
        self.upcalls += rest
        return rest

    def answer(self, upcall: tuple[Any, ...]) -> bool:
        name, *rest = upcall
        if name == "need_user":
            epoch, flags = self.users.get(rest[0], ((1 << 63) - 1, 0))
            self.core.put_user(rest[0], epoch, flags)
        elif name == "need_device":
            if rest[0] in self.devices:
                self.core.put_device(rest[0], *self.devices[rest[0]])
            else:
                self.core.no_device(rest[0])
        elif name == "need_conversation":
            if rest[0] in self.conversations:
                rules = self.rules.get(rest[0], {})
                self.core.put_conversation(rest[0], *self.conversations[rest[0]], **rules)
            else:
                self.core.no_conversation(rest[0])
        elif name == "need_idempotency":
            stored = self.sent.get((rest[0], rest[1]))
            self.core.answer_idempotency(*rest, stored is not None, *(stored or (0, 0, 0, 0)))
        elif name == "need_judgement":
            self.judge(*rest)
        else:
            return False
        return True

    def judge(self, device: int, cseq: int, user: int, cid: int, kind: int, has_ext: bool, content: bytes) -> None:
        """By cseq: every fourth is refused, every other fourth is stored with other content, some as another kind."""
        if cseq % 4 == 2:
            self.seqs.append(self.core.judge(device, cseq, 103, b"no such target"))
        elif cseq % 4 == 3:
            other = 2 if cseq % 8 == 3 else 0
            self.seqs.append(self.core.judge(device, cseq, 0, b"", b"\x03\x02\x01\x01" + content[:5], True, other))
        else:
            self.seqs.append(self.core.judge(device, cseq, 0, b""))

    def commit(self) -> None:
        """Append what is staged, publish."""
        if self.core.staged_count:
            self.journal.append(self.core.batch())
            self.core.publish()

    def run(self, rounds: int = 6) -> list[tuple[Any, ...]]:
        """Poll and commit until nothing moves."""
        rest = []
        for _ in range(rounds):
            rest += self.poll()
            self.commit()
        return rest

    def login(self, shard: FakeShard, handle: int, user: int, device: int, **more: Any) -> Session:
        """Log in and drop what else the shard was told meanwhile."""
        shard.login(handle, user, device, **more)
        self.run()
        (registered,) = [record for record in shard.read() if isinstance(record, Registered)]
        assert registered.error == 0
        return Session(handle, user, device, registered.session_epoch)


def answers(records: list[Any]) -> list[Ack | Nak]:
    return [decode_answer(record) for record in records if isinstance(record, Answer)]


def of_type(records: list[Any], kind: type) -> list[Any]:
    return [record for record in records if isinstance(record, kind)]
