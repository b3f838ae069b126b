"""What a test changes inside the processes of a server it starts: Python imports this file first when it lies on
PYTHONPATH (support.inside puts it there). Nothing here is part of chatd; without these variables nothing is changed.

SMALL_STORE=1  segments, folds and checkpoints as small and as frequent as hours of traffic would make them
SABOTAGE=n     those of the sabotages of docs/internals/sabotages.md that are made in Python
"""

import os


def small_store() -> None:
    from chatd.storage.sqlite.folder import FoldSettings
    from chatd.storage.sqlite.store import StoreSettings

    reserve = {"reserve_bytes": 4096, "slack_bytes": 4096}
    store = {"segment_bytes": 128 * 1024, **reserve}
    fold = {"portion_records": 100, "segment_age_s": 0.5, "checkpoint_interval_s": 0.5, **reserve}
    for settings, small in ((StoreSettings, store), (FoldSettings, fold)):
        settings.__new__.__defaults__ = tuple((settings._field_defaults | small).values())


def skip_sync() -> None:
    """2: the journal is never synced."""
    from chatd.storage.sqlite import journal

    begin, open_ = journal.begin_segment, journal.open_segment

    def begin_unsynced(connection, path, header):
        begin(connection, path, header)
        connection.pragma("synchronous", 0)

    def open_unsynced(path, vfs, *, write):
        connection = open_(path, vfs, write=write)
        connection.pragma("synchronous", 0)
        return connection

    journal.begin_segment, journal.open_segment = begin_unsynced, open_unsynced


def no_tail() -> None:
    """14: reads look at the main database only, and take what they find for all there is."""
    from chatd.hub.reads import Walk

    from_database = Walk._from_database

    async def all_there_is(self, seq, end):
        await from_database(self, seq, end)
        return end + 1

    Walk._from_database = all_there_is
    Walk._tail_floor = lambda self: 1 << 62


def position_apart() -> None:
    """15: how far the fold has come is committed before the rows are."""
    from chatd.storage.sqlite.folder import _SET_FOLDED_POS, SqliteFolder

    write_portion = SqliteFolder._write_portion

    def apart(self, main, portion):
        main.execute("ROLLBACK")
        main.execute(_SET_FOLDED_POS, (portion_end(self),))
        main.execute("BEGIN IMMEDIATE")
        write_portion(self, main, portion)

    def portion_end(self):
        return self._read_portion(self._folded_pos())[1]

    SqliteFolder._write_portion = apart


if os.environ.get("SMALL_STORE"):
    small_store()
SABOTAGES = {"2": skip_sync, "14": no_tail, "15": position_apart}
SABOTAGES.get(os.environ.get("SABOTAGE", ""), lambda: None)()
