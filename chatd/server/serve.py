"""`chatd serve`: prepare, choose between one process and many, run, say what to type next."""

import os
import shlex
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import trio

from chatd import logs, secrets
from chatd.config import Settings
from chatd.errors import ConfigError
from chatd.server.roles import LOCK_PAUSE_S, LOCK_RETRIES
from chatd.storage.lock_file import is_in_use
from chatd.storage.moved import refuse_moved
from chatd.storage.stores import refuse_to_mix
from chatd.supervisor.core import Supervisor
from chatd.supervisor.listeners import Listener, close_listeners, open_listeners
from chatd.supervisor.notify import notify
from chatd.supervisor.plan import checked_backup, checked_kinds, checked_roles
from chatd.supervisor.status import read_status, remove_status, running_on, write_status

KEY_CHECK_INTERVAL_S = 600.0


def serve(settings: Settings, config_file: Path | None, flags: dict[str, Any]) -> int:
    """Run the server until a signal. Returns the exit status. ConfigError before anything was started."""
    logs.configure(logs.resolved(settings.log.format), settings.log.level, role="supervisor")
    refuse_directory_in_use(settings.data)
    refuse_moved(settings.store, settings.data)
    refuse_to_mix(settings.store, settings.data)
    made = secrets.create(settings.data)
    if made:
        logs.get().info("secrets made", files=[str(path) for path in made])
    secrets.rotate_ticket_keys(settings.data, settings.auth.ticket_key_lifetime_s, time.time())
    keys = secrets.load(settings)
    checked_roles(settings)
    checked_kinds(settings)
    checked_backup(settings)
    shards = 1 if settings.process.inline else settings.shard_count
    listeners = open_listeners(settings, shards)
    try:
        return trio.run(_serve, settings, listeners, keys, config_file, flags)
    finally:
        remove_status(settings.data)
        close_listeners(listeners)


def refuse_directory_in_use(data: Path) -> None:
    """Before anything of it is touched. Workers of a server that was killed a moment ago are given time to end."""
    for _ in range(LOCK_RETRIES):
        if not is_in_use(data):
            return
        time.sleep(LOCK_PAUSE_S)
    holder = "another chatd"
    if pid := read_status(data).get("pid"):
        holder = f"the chatd of process {pid}, which listens on {running_on(data) or 'TLS only'},"
    raise ConfigError(
        f"{data} is in use: {holder} serves it. Stop that one first (SIGTERM; `systemctl stop chatd`), "
        "or choose another directory with --data"
    )


async def _serve(
    settings: Settings,
    listeners: list[Listener],
    keys: dict[str, Any],
    config_file: Path | None,
    flags: dict[str, Any],
) -> int:
    if settings.process.inline:
        from chatd.server.inline import InlineServer

        server: Any = InlineServer(settings, listeners, keys, config_file, flags)
    else:
        server = Supervisor(settings, listeners, keys, config_file, flags)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_announce, server, settings, listeners)
        nursery.start_soon(_rotate_keys, server, settings)
        status: int = await server.run()
        nursery.cancel_scope.cancel()
    return status


async def _announce(server: Any, settings: Settings, listeners: list[Listener]) -> None:
    """Everybody is ready: tell systemd, the status file and the person."""
    await server.ready.wait()
    took_s = since_process_start_s()
    write_status(settings.data, listeners)
    notify("READY=1", f"STATUS=serving, {settings.shard_count} shards")
    where = [f"{listener.kind} {_shown(listener)}" for listener in listeners]
    shards = "inline" if settings.process.inline else settings.shard_count
    logs.get().info("ready", listen=where, shards=shards, took_s=round(took_s, 2))
    if logs.resolved(settings.log.format) == "human":
        sys.stderr.write(next_steps(settings, listeners, took_s))
        sys.stderr.flush()


async def _rotate_keys(server: Any, settings: Settings) -> None:
    """A new ticket key every twelve hours; shards take it like a reload."""
    while True:
        await trio.sleep(KEY_CHECK_INTERVAL_S)
        if secrets.rotate_ticket_keys(settings.data, settings.auth.ticket_key_lifetime_s, time.time()):
            await server.reload()


def next_steps(settings: Settings, listeners: list[Listener], took_s: float) -> str:
    """For people: the two commands that show that it works."""
    where = _shown(listeners[0])
    data = "" if str(settings.data) == "data" else f" --data {shlex.quote(str(settings.data))}"
    chatd = command()
    return f"""
  chatd is ready on {where} after {took_s:.1f} s. What to type next, here in two other terminals:

      {chatd} chat --as alice{data}
      {chatd} send --as bob --to alice "hello"{data}

  Stop with ^C: clients are told, nothing is lost. `{chatd} --help` lists the rest.

"""


def command() -> str:
    """How another terminal, in the same directory, finds chatd: by name only where its environment is active."""
    script = Path(sys.executable).with_name("chatd")
    found = shutil.which("chatd")
    if found and script.exists() and Path(found).samefile(script):
        return "chatd"
    return os.path.relpath(script) if script.exists() else f"{os.path.relpath(sys.executable)} -m chatd"


def _shown(listener: Listener) -> str:
    host = f"[{listener.host}]" if ":" in listener.host else listener.host or "0.0.0.0"  # noqa: S104
    return f"{host}:{listener.port}"


def since_process_start_s() -> float:
    """Seconds since the kernel started this process: what a person waited, imports included."""
    with Path("/proc/self/stat").open("rb") as file:
        started_ticks = int(file.read().rpartition(b")")[2].split()[19])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started_ticks / os.sysconf("SC_CLK_TCK")
