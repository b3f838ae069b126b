"""The data directory that every run begins with: users with devices, groups with members, all of it folded."""

import tempfile
from functools import cache
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

import trio

from chatd.clock import Clock
from chatd.engine.native import HubCore, Portion
from chatd.hub.core_settings import HubCoreSettings
from chatd.hub.flags import UserFlag
from chatd.services import events
from chatd.services.devices import stage_device
from chatd.services.role import offline
from chatd.services.users import stage_user
from chatd.storage.interface import ConversationRow
from chatd.storage.sqlite import database
from chatd.storage.sqlite.folder import FoldSettings, SqliteFolder
from chatd.storage.sqlite.store import SqliteStore, StoreSettings
from chatd.wire.schema import ConversationKind, Role

LOG_EPOCH = 77
WALL_BASE_MS = 1_767_225_600_000
"""When all runs begin: the first of January of 2026."""
USERS = 60
DEVICES_PER_USER = 4
AUDITOR = 1
"""Owns every group and never leaves: what it reads in the end is the whole log. It has no devices of its own."""
GROUP_SIZES = (2, 2, 2, 3, 3, 4, 4, 5, 6, 8, 12)
GROUPS = 44


class Template(NamedTuple):
    """files: by name. devices: of each user. groups: cid → members beside the auditor, admins first."""

    files: dict[str, bytes]
    devices: dict[int, list[int]]
    groups: dict[int, list[int]]


def name_of(user: int) -> str:
    return f"user{user:03d}"


@cache
def template() -> Template:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name) / "data"
        # As long in every process: the lengths of frames decide where they are cut.
        with patch.object(database, "new_log_epoch", lambda: LOG_EPOCH):
            devices, groups = trio.run(_fill, directory)
        folder = SqliteFolder.open(directory, Portion, FoldSettings(segment_age_s=-1, reserve_bytes=0, slack_bytes=0))
        while folder.fold_once().more:
            pass
        folder.settle()
        folder.close()
        files = {path.name: path.read_bytes() for path in directory.iterdir() if not path.name.endswith("-shm")}
    return Template(files, devices, groups)


async def _fill(directory: Path) -> tuple[dict[int, list[int]], dict[int, list[int]]]:
    # A segment for every batch: what a hub replays at its start is the last and smallest.
    store = SqliteStore.open(directory, StoreSettings(segment_bytes=1, reserve_bytes=0, slack_bytes=0))
    core = HubCore(HubCoreSettings(log_epoch=store.log_epoch))
    devices: dict[int, list[int]] = {}
    groups: dict[int, list[int]] = {}
    async with offline(core, store, clock=Clock(lambda: WALL_BASE_MS * 1_000_000)) as hub:

        def people() -> None:
            for number in range(1, USERS + 1):
                row = stage_user(hub.rows, name_of(number), name_of(number), None, UserFlag(0), 1)
                assert row.id == number
                made = range(0 if number == AUDITOR else DEVICES_PER_USER)
                devices[number] = [stage_device(hub.rows, number, "", None).id for _ in made]

        def conversations(numbers: range) -> None:
            for number in numbers:
                cid = hub.rows.next_id("conversation")
                size = GROUP_SIZES[number % len(GROUP_SIZES)]
                # Neighbouring numbers share groups: a run that uses the first users has whole groups online.
                first = 2 + number * 4 % (USERS - 1)
                members = [2 + (first - 2 + step) % (USERS - 1) for step in range(size)]
                hub.core.put_conversation(cid, ConversationKind.GROUP, 0, 0, 0, 0, 0, [])
                row = ConversationRow(cid, int(ConversationKind.GROUP), "", 0, AUDITOR, None, 0, 0, 0, 0, 1)
                hub.rows.stage("conversation", row)
                hub.memberships.stage(cid, AUDITOR, Role.OWNER, 1)
                for index, user in enumerate(members):
                    hub.memberships.stage(cid, user, Role.MEMBER if index else Role.ADMIN, 1)
                events.created(hub.core, cid, AUDITOR, ConversationKind.GROUP, "")
                groups[cid] = members

        await hub.change(people)
        await hub.change(lambda: conversations(range(GROUPS - 1)))
        await hub.change(lambda: conversations(range(GROUPS - 1, GROUPS)))
    core.close()
    store.close()
    return devices, groups
