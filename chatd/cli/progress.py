"""Progress bars on a terminal, nothing elsewhere."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

NAMES = {
    "main": "copying the main database",
    "journal": "copying the journal",
    "check": "checking what was written",
    "hash": "reading it again",
    "copy": "copying the full backup",
    "replay": "replaying the journal",
}


@contextmanager
def bars() -> Iterator[Callable[[str, int, int], None]]:
    """A function (stage, done, of how many; of 0: nobody knows) that shows a bar per stage on standard error."""
    if not sys.stderr.isatty():
        yield lambda stage, done, of: None
        return
    from rich.console import Console
    from rich.progress import Progress, TaskID

    with Progress(console=Console(stderr=True)) as progress:
        tasks: dict[str, TaskID] = {}

        def show(stage: str, done: int, of: int) -> None:
            if stage not in tasks:
                tasks[stage] = progress.add_task(NAMES.get(stage, stage), total=None)
            if of:
                progress.update(tasks[stage], completed=done, total=of)

        yield show
