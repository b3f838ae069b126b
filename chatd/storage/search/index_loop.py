"""The indexer's process: index, rest, until told to stop. Search is never a reason for the server to end.

Nor a reason for a send to wait: a step that had to wait for a core or the disk was in somebody's way, so the indexer
rests many times as long as it waited. On an idle machine it does not rest; beside 100,000 sends a second it would
otherwise take most of a core, and a burst of sends more than half of its rate (bench durable, 2026-11).
"""

import logging
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from chatd.errors import StorageError, StoreCorruptError
from chatd.storage.search.indexer import Indexer
from chatd.storage.search.interface import SearchWriter

log = logging.getLogger(__name__)

INTERVAL_S = 0.5
RETRY_S = 5.0
# What is not indexed yet is found all the same, so indexing takes a tenth of the share of a process that is waited for.
POLITE_NICE = 10
REST_PER_WAIT = 50
REST_MAX_S = 5.0


def index_until(
    stop: threading.Event,
    open_writer: Callable[[], SearchWriter],
    make_indexer: Callable[[SearchWriter], Indexer],
    *,
    interval_s: float = INTERVAL_S,
    retry_s: float = RETRY_S,
) -> None:
    """Until `stop` is set; the step being done is finished first. What fails is tried again, and said when it lasts."""
    with ThreadPoolExecutor(1, "polite index", initializer=os.nice, initargs=(POLITE_NICE,)) as polite:
        polite.submit(_follow_always, stop, open_writer, make_indexer, interval_s, retry_s).result()


def _follow_always(
    stop: threading.Event,
    open_writer: Callable[[], SearchWriter],
    make_indexer: Callable[[SearchWriter], Indexer],
    interval_s: float,
    retry_s: float,
) -> None:
    last = told = ""
    while not stop.is_set():
        writer = None
        try:
            writer = open_writer()
            _follow(stop, writer, make_indexer(writer), interval_s)
        except StorageError as error:
            # A main database that is just being made, for one, is there a moment later.
            lasts = str(error) == last
            last = str(error)
            if lasts and told != last:
                log.warning("search is not kept up to date: %s", error)
                told = last
            stop.wait(retry_s if lasts else interval_s)
        finally:
            if writer is not None:
                writer.close()


def _follow(stop: threading.Event, writer: SearchWriter, indexer: Indexer, interval_s: float) -> None:
    """An index that is gone or damaged is made anew."""
    while not stop.is_set():
        began_s, computed_s = time.monotonic(), time.thread_time()
        if not writer.is_current():
            log.warning("the index of search is gone; it is made anew from the main database")
            writer.clear()
        try:
            more = indexer.step()
        except StoreCorruptError as error:
            log.warning("the index of search is made anew: %s", error)
            writer.clear()
            more = indexer.step()
        waited_s = (time.monotonic() - began_s) - (time.thread_time() - computed_s)
        stop.wait(max(min(REST_PER_WAIT * waited_s, REST_MAX_S), 0 if more else interval_s))
