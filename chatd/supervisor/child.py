"""One worker process: start, watch, dump, end. Only processes started here are ever signalled, by pidfd."""

import os
import signal
import subprocess
import sys
from typing import Any

import trio

from chatd.supervisor.control import Control
from chatd.supervisor.pulse import Pulse

# Time for faulthandler to write the stacks of a hung worker before it is killed.
DUMP_GRACE_S = 0.5


class Child:
    """A started worker. Its process is waited for by wait(), exactly once.

    pidfd, not pid, for every signal: it cannot hit another process that got the number of a dead one.
    """

    def __init__(self, role: str, index: int) -> None:
        """Start it. OSError when the system has no room for another process."""
        self.role, self.index = role, index
        self.control, theirs = Control.pair()
        self.pulse = Pulse.create()
        self.spawned_at = trio.current_time()
        self.ready = trio.Event()
        self.drained = trio.Event()
        self.hung = False
        inherited = [theirs.fileno(), self.pulse.descriptor]
        try:
            # From this thread, not a helper thread: the worker's parent-death signal is bound to the thread.
            self._process = subprocess.Popen(  # noqa: S603
                [sys.executable, "-m", "chatd.worker", role, str(index), *map(str, inherited)],
                pass_fds=inherited,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                env=_environment(),
            )
        except OSError:
            self.pulse.close()
            raise
        finally:
            theirs.close()
        self.pid = self._process.pid
        self._pidfd = os.pidfd_open(self.pid)

    @property
    def name(self) -> str:
        return f"shard {self.index}" if self.role == "shard" else self.role

    async def send(self, message: dict[str, Any], descriptors: list[int] | None = None) -> bool:
        return await self.control.send(message, descriptors)

    async def wait(self) -> int:
        """Wait for its end and give everything back. The status is negative for a signal, as in subprocess."""
        await trio.lowlevel.wait_readable(self._pidfd)
        status = self._process.wait()
        os.close(self._pidfd)
        self._pidfd = -1
        self.control.close()
        self.pulse.close()
        return status

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        if self._pidfd >= 0:
            try:
                signal.pidfd_send_signal(self._pidfd, number)
            except ProcessLookupError:
                return

    async def dump_and_kill(self) -> None:
        """For a hung worker: SIGABRT makes faulthandler write all stacks, SIGKILL ends what ignores it (SIGSTOP)."""
        self.hung = True
        self.kill(signal.SIGABRT)
        await trio.sleep(DUMP_GRACE_S)
        self.kill()


def _environment() -> dict[str, str]:
    """Ours, without what belongs to the supervisor alone. Settings travel over the control socket."""
    private = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES")
    return {name: value for name, value in os.environ.items() if name not in private}
