"""Copies a store to another kind of store while a server writes to it, and moves the server over.

A copy is rounds. In each, a view of the source says how far the source has folded; the journal up to there goes into
the journal of the copy, which folds it; then both stand at one position and are compared. Before the first round the
rows are copied as they are, from one view. The last round is made under the fence: the copier holds the source's own
locks, so nobody writes to it, and folds what is left.

What is in the copy is the progress: a copier that is killed and begun anew compares what it finds and replaces what is
not the same, or follows the journal where the copy has come so far. Nothing of the source is changed before everything
has been verified; whatever fails until then gives the locks back, and the server goes on where it was.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from chatd.errors import ConfigError, StorageError, StoreCorruptError, StoreLockedError
from chatd.storage.copy.interface import BULK, FOLLOWING, Copying, Source, Target
from chatd.storage.copy.tables import Key, Table, tables
from chatd.storage.copy.verify import Touched, Verified, everything
from chatd.storage.copy.verify import touched as touched_rows
from chatd.storage.interface import Decoder
from chatd.storage.moved import DONE, VERIFIED, Move, kind_of, read_move, shown, write_move
from chatd.storage.sql_view import SqlView

ROWS_PER_PAGE = 4_000
# A copy has caught up when what came during the last round was so little, or took no longer than this.
CAUGHT_UP_RECORDS, CAUGHT_UP_S = 2_000, 0.5
ROUNDS_MAX = 100
REQUEST_KEYS_MS = 7 * 86_400_000
POINTS = (
    *("prepared", "rows begun", "page copied", "table copied", "rows copied", "following", "view shipped"),
    *("shipped", "folded", "verified", "caught up", "asked", "source taken", "target taken", "source folded"),
    *("rest shipped", "rest folded", "rest verified", "fenced", "noted", "finished", "done"),
)
"""Where a copier may be killed: names that `at` is told, in order."""


class Result(NamedTuple):
    """position: of the source, up to which the copy is the same. seconds: by stage. fenced_s: from the request to let
    go until the copy may be served; 0 without a switch.
    """

    position: int
    records: int
    verified: Verified
    seconds: dict[str, float]
    fenced_s: float


class Copier:
    """move: from where to where. home: the data directory that takes part.

    show: told what is being done, and how much of how much is done. at: told each of POINTS. The caller holds the
    directory's copy lock, and closes both ends.
    """

    def __init__(
        self,
        source: Source,
        target: Target,
        move: Move,
        home: Path,
        decode: Decoder,
        show: Callable[[str, int, int], None] = lambda what, done, total: None,
        at: Callable[[str], None] = lambda point: None,
    ) -> None:
        self._source, self._target = source, target
        self._move, self._home = move, home
        self._decode, self._show, self._at = decode, show, at
        self._place = move.to if kind_of(move.to) == "postgresql" else str(home)
        self._seconds: dict[str, float] = {}
        self._records = 0
        self._pos = 0
        """Both stand here, and are the same."""

    def run(self, *, switch: bool, within_s: float) -> Result:
        """Copy, catch up, verify; with `switch` move the server over, unless that takes longer than within_s.

        Raises ConfigError (another store is there, or the source has moved), StorageError (nothing has changed for the
        server; run it again), StoreCorruptError (the copy is not the same).
        """
        before = read_move(self._home)
        fenced_at = self._fenced_at(before)
        if fenced_at is not None:
            return self._complete(fenced_at, time.monotonic() + within_s)
        with self._source.view() as view:
            log_epoch = int(view.meta("log_epoch"))
        copying = self._target.prepare(log_epoch)
        self._at("prepared")
        verified = self._resumed() if copying.phase == FOLLOWING else None
        if verified is None:
            self._copy_rows(log_epoch)
            verified = self._round(None)
        for _ in range(ROUNDS_MAX):
            began, known = time.monotonic(), self._records
            self._round(Touched(self._decode))
            if self._records - known < CAUGHT_UP_RECORDS or time.monotonic() - began < CAUGHT_UP_S:
                break
        else:
            raise StorageError("the copy does not catch up with what is written: try at a quieter time")
        self._at("caught up")
        fenced_s = self._switch(before, Copying(log_epoch, FOLLOWING), within_s) if switch else 0.0
        return Result(self._pos, self._records, verified, self._seconds, fenced_s)

    # ------------------------------------------------------------ rows

    def _copy_rows(self, log_epoch: int) -> None:
        self._target.mark(Copying(log_epoch, BULK), {})
        self._target.restart()
        self._at("rows begun")
        with self._timed("rows"), self._source.view() as view:
            total, done = sum(self._rows_of(view).values()), 0
            for of in tables():
                for count in self._copy_table(view, of):
                    done += count
                    self._show("copying", done, max(total, done))
                    self._at("page copied")
                self._at("table copied")
            self._at("rows copied")
            self._target.mark(Copying(log_epoch, FOLLOWING), self._meta(view, log_epoch))
            self._at("following")
            # As long as the view lasts the source keeps what was written since.
            with self._source.view() as newest:
                self._ship(newest.folded_pos, None)
            self._at("view shipped")

    def _copy_table(self, view: SqlView, of: Table) -> Iterator[int]:
        after: Key | None = None
        while True:
            sql, bindings = of.page(after, None, ROWS_PER_PAGE)
            rows = [tuple(row) for row in view.rows(sql, *bindings)]
            is_last = len(rows) < ROWS_PER_PAGE
            # Nothing is to be left behind the last row.
            last = None if is_last else of.key_of(rows[-1])
            self._target.replace(of, after, last, rows)
            yield len(rows)
            if is_last:
                return
            after = last

    @staticmethod
    def _rows_of(view: SqlView) -> dict[str, int]:
        """How many there are; of events about."""
        counts: dict[str, int] = {}
        for of in tables():
            what = "coalesce(max(id) - min(id) + 1, 0)" if of.name == "event" else "count(*)"
            counts[of.name] = int(next(iter(view.rows(f"SELECT {what} FROM {of.quoted}")))[0])  # noqa: S608
        return counts

    @staticmethod
    def _meta(view: SqlView, log_epoch: int) -> dict[str, int]:
        highest = view.rows("SELECT key, value FROM meta WHERE key LIKE 'highest_%'")
        known = {key: int(value) for key, value in highest}
        return {**known, "log_epoch": log_epoch, "boot_count": 0, "folded_pos": view.folded_pos}

    # ------------------------------------------------------------ rounds

    def _resumed(self) -> Verified | None:
        """The first round of a copy that has all rows. None: the journal of the source does not reach back to where it
        stands any more, or it is a copy of something else by now; its rows are compared one by one then.
        """
        try:
            return self._round(None)
        except StorageError:
            return None

    def _ship(self, upto_pos: int, noted: Touched | None) -> None:
        after_pos = self._target.next_pos - 1
        for batches in self._source.batches(after_pos, upto_pos):
            self._target.append(batches)
            self._records += sum(batch.record_count for batch in batches)
            if noted is not None:
                for batch in batches:
                    noted.add(*batch)
            self._show("catching up", batches[-1].pos - after_pos, upto_pos - after_pos)

    def _round(self, noted: Touched | None, prefix: str = "") -> Verified:
        """Bring the copy to where the source has folded, and compare. noted None: everything."""
        with self._source.view() as view:
            with self._timed("journal"):
                self._ship(view.folded_pos, noted)
                self._at(f"{prefix}shipped")
                self._fold_to(view.folded_pos)
                self._at(f"{prefix}folded")
            with self._timed("verified"), self._target.view() as copy:
                verified = self._compared(view, copy, noted)
            self._pos = view.folded_pos
        self._at(f"{prefix}verified")
        return verified

    def _fold_to(self, pos: int) -> None:
        folded = self._target.fold()
        while folded.records and folded.folded_pos < pos:
            folded = self._target.fold()

    def _compared(self, view: SqlView, copy: SqlView, noted: Touched | None) -> Verified:
        if copy.folded_pos != view.folded_pos:
            raise StoreCorruptError(f"the copy stands at {copy.folded_pos}, the source at {view.folded_pos}")
        oldest_ms = int(time.time() * 1000) - REQUEST_KEYS_MS
        if noted is not None:
            return touched_rows((self._source, view), (self._target, copy), noted.keys, oldest_ms)
        total, done = sum(self._rows_of(view).values()), 0

        def progress(rows: int) -> None:
            nonlocal done
            done += rows
            self._show("verifying", done, max(total, done))

        return everything(view, copy, oldest_ms, progress)

    # ------------------------------------------------------------ the switch

    def _switch(self, before: Move | None, copying: Copying, within_s: float) -> float:
        began = time.monotonic()
        try:
            write_move(self._home, self._move)
            self._at("asked")
            self._source.take(began + within_s)
            self._at("source taken")
            self._target.take(began + within_s)
            self._at("target taken")
            while self._source.fold().more:
                pass
            self._at("source folded")
            self._round(Touched(self._decode), "rest ")
            if self._pos != self._source.end_pos:
                raise StorageError(f"the source ends at {self._source.end_pos}, but {self._pos} are folded")
            self._target.mark(copying, {"boot_count": self._source.boot_count})
            if time.monotonic() - began > within_s:
                raise StoreLockedError(f"the switch took longer than {within_s:g} s: the server goes on as it was")
            self._source.fence(self._place, self._pos)
        except BaseException:
            self._source.let_go()
            write_move(self._home, before)
            raise
        move = self._move._replace(state=VERIFIED, position=self._pos, segment=self._source.segment)
        self._at("fenced")
        self._finish(move)
        self._source.let_go()
        return time.monotonic() - began

    def _fenced_at(self, move: Move | None) -> int | None:
        """Where the source ended, when a copier was killed after the fence."""
        gone = self._source.gone()
        if move is not None and move.fences and kind_of(move.origin) == self._source.kind:
            gone = move.to, move.position
            if move.state == DONE:
                raise ConfigError(f"the store of {self._source.name} has moved already, to {shown(move.to)}")
        if gone is not None and gone[0] not in (self._move.to, self._place):
            raise ConfigError(f"the store of {self._source.name} has moved already, to {shown(gone[0])}")
        return None if gone is None else gone[1]

    def _complete(self, position: int, until_s: float) -> Result:
        """What is left is to make the copy a store."""
        self._target.take(until_s)
        self._finish(self._move._replace(state=VERIFIED, position=position, segment=self._source.segment))
        return Result(position, 0, Verified({}, 0), self._seconds, 0.0)

    def _finish(self, move: Move) -> None:
        write_move(self._home, move)
        self._at("noted")
        self._target.finish()
        self._at("finished")
        write_move(self._home, move._replace(state=DONE))
        self._at("done")

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            self._seconds[stage] = self._seconds.get(stage, 0.0) + time.monotonic() - began
