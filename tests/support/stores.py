"""One store suite for both stores: where a test's store lies, how it is opened, folded, checked and broken."""

from pathlib import Path
from typing import Any, Protocol

import apsw

from chatd.storage import journal_codec as codec
from chatd.storage.interface import Folder, Report, Store
from chatd.storage.portion import Portion
from chatd.storage.postgresql.folder import PostgresFolder, PostgresFoldSettings
from chatd.storage.postgresql.store import PostgresSettings, PostgresStore
from chatd.storage.sqlite.folder import FoldSettings, SqliteFolder
from chatd.storage.sqlite.store import SqliteStore, StoreSettings
from chatd.storage.stores import check_store
from support.postgres import Postgres

SMALL = StoreSettings(segment_bytes=64 * 1024, reserve_bytes=64 * 1024, slack_bytes=64 * 1024)
FOLD = FoldSettings(reserve_bytes=64 * 1024, slack_bytes=64 * 1024, segment_age_s=0, checkpoint_interval_s=0)
POSTGRES_FOLD = PostgresFoldSettings(batch_age_s=0, delete_interval_s=0)


class StorePlace(Protocol):
    """where: the setting `store`. name: of the kind of store."""

    name: str
    where: str
    directory: Path

    def open(self, *, read_only: bool = False) -> Store: ...

    def folder(self, **settings: Any) -> Folder:
        """settings: portion_records, request_keys_forgotten; nothing folded is kept."""

    def check(self) -> Report: ...
    def execute(self, sql: str) -> None:
        """Behind the store's back."""


class SqlitePlace:
    name = where = "sqlite"

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def open(self, *, read_only: bool = False) -> SqliteStore:
        return SqliteStore.open(self.directory, SMALL._replace(read_only=read_only))

    def folder(self, **settings: Any) -> SqliteFolder:
        return SqliteFolder.open(self.directory, Portion, FOLD._replace(**settings))

    def check(self) -> Report:
        return check_store(self.where, self.directory, codec.decode_batch)

    def execute(self, sql: str) -> None:
        connection = apsw.Connection(str(self.directory / "chatd.db"))
        connection.execute(sql)
        connection.close()


class PostgresPlace:
    name = "postgresql"

    def __init__(self, directory: Path, server: Postgres) -> None:
        self.directory = directory
        self.server = server
        self.where = server.database()

    def open(self, *, read_only: bool = False) -> PostgresStore:
        return PostgresStore.open(self.where, PostgresSettings(read_only=read_only))

    def folder(self, **settings: Any) -> PostgresFolder:
        return PostgresFolder.open(self.where, Portion, POSTGRES_FOLD._replace(**settings))

    def check(self) -> Report:
        return check_store(self.where, self.directory, codec.decode_batch)

    def execute(self, sql: str) -> None:
        self.server.sql(sql, self.where)
