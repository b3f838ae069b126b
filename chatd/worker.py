"""`python -m chatd.worker ROLE INDEX FD PULSE`: a worker process. Started by the supervisor only.

It reads its settings from the control socket FD, runs its role on trio, proves through the shared memory PULSE that its
loop turns, and ends when the supervisor does. Crash-only: nothing is saved at the end that a kill -9 would lose.
"""

import faulthandler
import os
import signal
import socket
import sys
import threading
from typing import Any

import setproctitle
import trio

from chatd import logs
from chatd.errors import ConfigError, InternalError, StorageError, StoreCorruptError, StoreFailedError, StoreLockedError
from chatd.server.roles import ROLES, Role
from chatd.server.scheduling import schedule
from chatd.supervisor import links
from chatd.supervisor.control import Control
from chatd.supervisor.exits import EXIT_REFUSES, EXIT_STORE_FAILED
from chatd.supervisor.pulse import Pulse

COMMANDS_MAX = 256
PR_SET_PDEATHSIG = 1
END_TIMEOUT_S = 3.0


def main() -> None:
    role, index, descriptor, pulse_descriptor = sys.argv[1], *(int(number) for number in sys.argv[2:5])
    faulthandler.enable(all_threads=True)
    _die_with_supervisor()
    # Only the supervisor decides when a worker ends: ^C in a terminal reaches the supervisor, which drains.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    setproctitle.setproctitle(f"chatd: {role} {index}" if role == "shard" else f"chatd: {role}")
    schedule(role)
    control = socket.socket(fileno=descriptor)
    control.set_inheritable(False)
    os.set_inheritable(pulse_descriptor, False)
    pulse = Pulse(pulse_descriptor)
    ready = threading.Event()
    try:
        trio.run(_run, role, index, control, pulse, ready)
    except* (ConfigError, StoreCorruptError, StoreLockedError) as refusals:
        # A read that fails with EIO looks like damage, too. Whoever served tries again; its start looks at the files.
        _end(EXIT_STORE_FAILED if ready.is_set() else EXIT_REFUSES, refusals)
    except* StoreFailedError as failures:
        _end(EXIT_STORE_FAILED, failures)
    except* StorageError as failures:
        _end(1, failures)
    except* Exception as failures:  # noqa: BLE001 the last thing this process does
        logs.get().exception("worker failed", exc_info=failures)
        os._exit(1)


def _end(status: int, group: BaseExceptionGroup[Any]) -> None:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    logs.get().error(str(error))
    sys.stderr.flush()
    os._exit(status)


def _die_with_supervisor() -> None:
    """The kernel kills us when the supervisor dies, also when this process hangs or is stopped (PR_SET_PDEATHSIG)."""
    import ctypes

    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


async def _run(role: str, index: int, sock: socket.socket, pulse: Pulse, ready: threading.Event) -> None:
    control = Control(sock)
    first = await control.receive()
    if first is None:
        return
    message, descriptors = first
    settings = message["settings"]
    logs.configure(settings["log"]["format"], settings["log"]["level"], role=role, index=index)
    send_commands, commands = trio.open_memory_channel[tuple[Any, ...]](COMMANDS_MAX)

    async def say(said: dict[str, Any]) -> None:
        await control.send(said)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(_beat, pulse, settings["beat_ms"] / 1000)
        await nursery.start(_run_role, ROLES[role], Role(message, descriptors, commands, say), nursery.cancel_scope)
        nursery.start_soon(_obey, role, control, send_commands, nursery.cancel_scope)
        ready.set()
        await control.send({"say": "ready"})


async def _run_role(entry: Any, role: Role, scope: trio.CancelScope, task_status: trio.TaskStatus[None]) -> None:
    await entry(role, task_status=task_status)
    scope.cancel()


async def _beat(pulse: Pulse, interval_s: float) -> None:
    """Beat until the worker ends; from then on it has END_TIMEOUT_S, whatever still waits for an answer."""
    try:
        while True:
            pulse.beat()
            await trio.sleep(interval_s)
    finally:
        # A thread whose result could not be handed over (no memory) would be waited for until the watchdog kills.
        faulthandler.dump_traceback_later(END_TIMEOUT_S, exit=True)


async def _obey(
    role: str, control: Control, commands: trio.MemorySendChannel[tuple[Any, ...]], scope: trio.CancelScope
) -> None:
    """Turn packets into commands for the role, until the supervisor is gone."""
    while (received := await control.receive()) is not None:
        message, descriptors = received
        # Between shards; everything else is a link with the hub at one end.
        suffix = "_peer" if message.get("to") == role == "shard" else ""
        match message["do"]:
            case "link":
                ring_in, ring_out = links.attach(message["epoch"], descriptors)
                await commands.send((f"link{suffix}", message["index"], message["epoch"], ring_in, ring_out))
            case "unlink":
                await commands.send((f"unlink{suffix}", message["index"]))
            case "reload":
                logs.set_level(message["log_level"])
                await commands.send(("reload", message))
            case "pressure":
                await commands.send(("pressure", message["level"]))
            case "drain":
                await commands.send(("drain", message["window_ms"]))
            case "stop":
                await commands.send(("stop",))
    if control.failed:
        raise InternalError("a worker that cannot be told anything any more has to be replaced")
    scope.cancel()


if __name__ == "__main__":
    main()
