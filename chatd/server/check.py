"""`chatd serve --check`: would this configuration work here and now? Every finding says what to do."""

import os
import ssl
import sys
from collections.abc import Iterator
from pathlib import Path

from chatd import secrets
from chatd.config import Settings
from chatd.errors import ConfigError
from chatd.supervisor.listeners import probe
from chatd.supervisor.plan import checked_backup, checked_kinds, checked_roles


def report(settings: Settings) -> int:
    """Print the findings. 0 when there is none, else 1."""
    found = list(findings(settings))
    for finding in found:
        sys.stderr.write(f"chatd: {finding}\n")
    if not found:
        sys.stderr.write("chatd: the configuration is fine\n")
    return 1 if found else 0


def findings(settings: Settings) -> Iterator[str]:
    """One sentence per problem, and what to do about it. Changes nothing."""
    yield from _data(settings)
    yield from _secrets(settings)
    yield from _relations(settings)
    yield from _own(settings)
    yield from _backup(settings)
    yield from _tls(settings)
    for address in [*settings.listen.tcp, *settings.listen.tls]:
        problem = probe(address) if address.port else None
        if problem:
            yield problem


def _data(settings: Settings) -> Iterator[str]:
    data = settings.data
    if _visible(data):
        if not data.is_dir():
            yield f"{data} is not a directory; set `data` to one"
        elif not os.access(data, os.R_OK | os.W_OK | os.X_OK):
            yield f"{data} is not readable and writable for this user; chown it, or run as its owner"
        return
    parent = data.absolute().parent
    while not _visible(parent):
        parent = parent.parent
    if not os.access(parent, os.W_OK | os.X_OK):
        yield f"{data} does not exist and cannot be made in {parent}; make it, or set `data`"


def _visible(path: Path) -> bool:
    """It exists, and this user may look into its directory."""
    try:
        return path.exists()
    except PermissionError:
        return False


def _secrets(settings: Settings) -> Iterator[str]:
    """A directory without secrets is not a finding: the first start makes them."""
    if not _visible(secrets.directory(settings.data)):
        return
    try:
        secrets.load(settings)
    except ConfigError as error:
        yield str(error)


def _own(settings: Settings) -> Iterator[str]:
    """Roles, kinds of messages, backups."""
    for check in (checked_roles, checked_kinds, checked_backup):
        try:
            check(settings)
        except ConfigError as error:
            yield str(error)


def _backup(settings: Settings) -> Iterator[str]:
    directory = settings.backup.directory
    if directory is None:
        return
    existing = directory if directory.exists() else directory.absolute().parent
    if not os.access(existing, os.W_OK | os.X_OK):
        yield f"backup.directory {directory} cannot be written to by this user; is its disk mounted?"


def _relations(settings: Settings) -> Iterator[str]:
    """What single ranges cannot say."""
    queue, process = settings.queue, settings.process
    if not queue.low_bytes < queue.soft_bytes < queue.hard_bytes:
        yield "queue.low_bytes < queue.soft_bytes < queue.hard_bytes must hold"
    if process.drain_timeout_ms <= 2 * process.drain_window_ms:
        yield "process.drain_timeout_ms must be more than twice process.drain_window_ms, or clients are cut off"
    for name in ("hub_ring_bytes", "peer_ring_bytes"):
        size = getattr(settings.hub, name)
        if size & (size - 1):
            yield f"hub.{name} = {size} is not a power of two; the next one is {1 << size.bit_length()}"
    if not settings.listen.tcp and not settings.listen.tls and "LISTEN_FDS" not in os.environ:
        yield "listen.tcp and listen.tls are both empty: nobody could connect"


def _tls(settings: Settings) -> Iterator[str]:
    tls = settings.tls
    if not settings.listen.tls:
        return
    if tls.certificate is None or tls.key is None:
        yield "listen.tls needs tls.certificate and tls.key"
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(tls.certificate, tls.key, password=_no_passphrase)
    except (OSError, ssl.SSLError) as error:
        yield f"tls.certificate {tls.certificate} with tls.key {tls.key}: {error}; give PEM files that belong together"


def _no_passphrase() -> str:
    raise ssl.SSLError("the key is encrypted with a passphrase, which a daemon cannot type")
