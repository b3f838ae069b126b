"""Rows: one answer from what is staged, what is not folded and what readers bring, however these interleave."""

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from support.plain_core import PlainCore

from chatd.hub.memberships import Memberships
from chatd.hub.rows import CACHED_ROWS_MAX, MissingRows, Name, Rows
from chatd.storage.interface import HighestIds, UserRow

IDS = st.integers(1, 4)


class RowsAgainstModel(RuleBasedStateMachine):
    """The main database is a dictionary that a fold brings up to date; a snapshot is a copy of it with its position."""

    def __init__(self) -> None:
        super().__init__()
        self.core = PlainCore()
        self.rows = Rows(self.core, HighestIds(0, 0, 0, 0))  # type: ignore[arg-type]
        self.database: dict[int, UserRow] = {}
        self.folded_pos = 0
        self.journal: list[tuple[int, UserRow]] = []
        self.truth: dict[int, UserRow] = {}
        self.staged: dict[int, UserRow] = {}
        self.snapshots: list[tuple[int, dict[int, UserRow]]] = [(0, {})]

    def teardown(self) -> None:
        self.core.close()

    @rule(user=IDS, flags=st.integers(0, 1000))
    def stage(self, user: int, flags: int) -> None:
        row = UserRow(user, f"user{user}", "", None, flags, 0, 1)
        self.rows.stage("user", row)
        self.staged[user] = row
        self.journal.append((self.core.committed_pos + self.core.staged_count, row))

    @rule()
    def commit(self) -> None:
        self.core.publish()
        self.rows.committed()
        self.truth |= self.staged
        self.staged = {}

    @rule()
    def reject(self) -> None:
        self.journal = [entry for entry in self.journal if entry[0] <= self.core.committed_pos]
        self.core.reject(501, 0)
        self.rows.rejected()
        self.staged = {}

    @precondition(lambda self: not self.staged)
    @rule(behind=st.integers(0, 3), tell=st.booleans())
    def fold(self, behind: int, tell: bool) -> None:
        self.folded_pos = max(self.folded_pos, self.core.committed_pos - behind)
        self.database |= {row.id: row for pos, row in self.journal if pos <= self.folded_pos}
        self.journal = [entry for entry in self.journal if entry[0] > self.folded_pos]
        if tell:
            self.rows.folded(self.folded_pos)

    @rule()
    def snapshot(self) -> None:
        self.snapshots = [*self.snapshots[-3:], (self.folded_pos, dict(self.database))]

    @rule(user=IDS, which=st.integers(0, 3), unique=st.booleans())
    def answer_of_a_reader(self, user: int, which: int, unique: bool) -> None:
        folded_pos, database = self.snapshots[min(which, len(self.snapshots) - 1)]
        value: Any = f"user{user}" if unique else user
        self.rows.loaded(folded_pos, Name("user", value, unique), database.get(user))

    @invariant()
    def whatever_is_known_is_true(self) -> None:
        now = self.truth | self.staged
        for user in range(1, 5):
            for value, unique in ((user, False), (f"user{user}", True)):
                try:
                    found = self.rows.find("user", value, unique=unique)
                except MissingRows as missing:
                    assert missing.names == (Name("user", value, unique),)  # noqa: PT017
                    continue
                assert found == now.get(user)


RowsAgainstModel.TestCase.settings = settings(max_examples=150, stateful_step_count=30)


class TestRows(RowsAgainstModel.TestCase):
    pass


def test_one_question_may_be_about_more_rows_than_are_kept() -> None:
    rows = Rows(PlainCore(), HighestIds(0, 0, 0, 0))  # type: ignore[arg-type]
    wanted = {user: UserRow(user, f"user{user}", "", None, 0, 0, 1) for user in range(1, 3 * CACHED_ROWS_MAX)}
    with pytest.raises(MissingRows) as missing:
        rows.find_all("user", wanted)
    for name in missing.value.names:
        assert rows.loaded(0, name, wanted[name.value])  # type: ignore[index]
    assert rows.find_all("user", wanted) == wanted


def test_memberships_are_given_back_by_a_rejected_batch() -> None:
    core = PlainCore()
    core.put_conversation(1, 2, 0, 0, 0, 0, 0, [])
    memberships = Memberships(core)  # type: ignore[arg-type]
    memberships.stage(1, 7, 1, 1)
    core.publish()
    memberships.committed()
    before = memberships.of_user(7)
    memberships.stage(1, 7, 2, 1)
    memberships.stage(1, 7, 1, 1, 5)
    memberships.stage(1, 8, 1, 1)
    memberships.rejected()
    assert memberships.of_user(7) == before
    assert memberships.of_user(8) == []
    memberships.folded(1)
    assert memberships.of_user(7) == []
    core.close()
