"""Backups that the server makes by itself: when the next one is due, and how the last one went.

A process (with --inline a thread) of its own, at the lowest priority that still gets on: nobody waits for a backup, but
the write-ahead log of the main database grows while one is made. Trouble never ends the server: it is said once, noted
where `chatd backup status` finds it, and the backup tried again.
"""

import json
import logging
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from chatd.errors import BackupGapError, ChatdError
from chatd.storage.backup.catalogue import Backup, read_catalogue
from chatd.storage.backup.make import Job, back_up, store_epoch
from chatd.storage.backup.progress import BackupStoppedError
from chatd.storage.backup.retention import Keep, prune
from chatd.storage.sqlite.directory import MAIN_NAME
from chatd.storage.sqlite.synced import synced_pos

log = logging.getLogger(__name__)

STATUS_NAME = "backup.json"
POLITE_NICE = 10
RETRY_S = 60.0
# Clocks are set, and a directory of backups may be emptied.
LOOK_S = 30.0


class Schedule(NamedTuple):
    """0: never by itself."""

    full_every_s: int
    incremental_every_s: int


def due(schedule: Schedule, root: Path, log_epoch: int, position: int, now_ms: int) -> str:
    """ "full", "incremental" or "": nothing now. position: how far the journal is on the disk."""
    line = read_catalogue(root).newest(log_epoch) if root.exists() else None
    if line is None:
        return "full" if schedule.full_every_s else ""
    full = line.sets()[-1].full
    if schedule.full_every_s and now_ms - full.manifest.begun_ms >= 1000 * schedule.full_every_s:
        return "full"
    waited = now_ms - line.tip.manifest.begun_ms >= 1000 * schedule.incremental_every_s
    return "incremental" if schedule.incremental_every_s and waited and position > line.tip.manifest.last_pos else ""


def back_up_until(stop: threading.Event, job: Job, schedule: Schedule, keep: Keep) -> None:
    """Until `stop` is set; a backup that is being made then is given up, nothing is left of it."""
    with ThreadPoolExecutor(1, "polite backup", initializer=os.nice, initargs=(POLITE_NICE,)) as polite:
        polite.submit(_always, stop, job, schedule, keep).result()


def _always(stop: threading.Event, job: Job, schedule: Schedule, keep: Keep) -> None:
    look_s = min([LOOK_S, *(float(every_s) for every_s in schedule if every_s)])

    def report(stage: str, done: int, of: int) -> None:
        del stage, done, of
        if stop.is_set():
            raise BackupStoppedError("the server stops")

    said = ""
    while not stop.is_set():
        wait_s = look_s
        try:
            if (job.data / MAIN_NAME).exists():
                turn(job._replace(report=report), schedule, keep)
            said = ""
        except BackupStoppedError:
            return
        except (ChatdError, OSError) as error:
            text = str(error)
            if text != said:
                log.error("no backup was made, the next try is in %.0f s: %s", RETRY_S, text)
            said, wait_s = text, max(look_s, RETRY_S)
            note(job.data, failure={"at_ms": _now_ms(), "text": text})
        stop.wait(wait_s)


def turn(job: Job, schedule: Schedule, keep: Keep) -> Backup | None:
    """One look, and what is due."""
    log_epoch = store_epoch(job.data)
    kind = due(schedule, job.root, log_epoch, synced_pos(job.data), _now_ms())
    if not kind:
        return None
    try:
        made = back_up(job, incremental=kind == "incremental")
    except BackupGapError as gap:
        log.warning("a full backup is made instead of an incremental one: %s", gap)
        made = back_up(job, incremental=False)
    manifest = made.manifest
    took_s = (manifest.ended_ms - manifest.begun_ms) / 1000
    log.info(
        "backup %s made: %d bytes, records up to %d, %.1f s", made.name, manifest.size_bytes, manifest.last_pos, took_s
    )
    note(job.data, last={"name": made.name, "directory": str(job.root), "ended_ms": manifest.ended_ms}, failure=None)
    for gone in prune(job.root, log_epoch, keep, _now_ms()):
        log.info("backup %s deleted: newer ones supersede it", gone.name)
    return made


def note(data: Path, **changes: Any) -> None:
    """Replace what `changes` names in the status file."""
    try:
        scratch = data / f".{STATUS_NAME}.new"
        scratch.write_text(json.dumps(status(data) | changes) + "\n", encoding="utf-8")
        scratch.replace(data / STATUS_NAME)
    except OSError as error:
        log.warning("%s cannot be written: %s", data / STATUS_NAME, error)


def status(data: Path) -> dict[str, Any]:
    """last: name, directory, ended_ms of the last one that the server made; failure: at_ms, text, or null."""
    try:
        content: dict[str, Any] = json.loads((data / STATUS_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {"last": None, "failure": None}
    return content


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
