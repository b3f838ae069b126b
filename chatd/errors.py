"""The exceptions of chatd: one small tree.

A message says what happened, to what, and what to do. Inside the engine errors are status codes; they become one of
these at its door. Everything here is safe to import from any layer.
"""


class ChatdError(Exception):
    """Base of every error that chatd raises on purpose."""


class ConfigError(ChatdError):
    """The operator's settings cannot be used. The message names the key and what it must be."""


class StorageError(ChatdError):
    """The store could not do what was asked: nothing of the failed batch has been acknowledged."""


class StoreFullError(StorageError):
    """No space left. Nothing was written; the same call may succeed once there is space."""


class StoreFailedError(StorageError):
    """A write or an fsync failed and what reached the disk is unknown. End the process at once; a restart recovers."""


class StoreLostError(StorageError):
    """The database cannot be reached, or the connection that may write has ended: whether it stored the last batch is
    known to nobody here. Nothing is acknowledged; whoever connects next reads what is there.
    """


class StoreCorruptError(StorageError):
    """What lies on the disk contradicts itself. findings: what the check found, one sentence each."""

    def __init__(self, message: str, findings: tuple[str, ...] = ()) -> None:
        super().__init__("\n  ".join((message, *findings)))
        self.findings = findings


class StoreLockedError(StorageError):
    """Another process has this data directory open for writing."""


class BackupError(StorageError):
    """A backup could not be made, or is not what it says. The message names the file and what to do."""


class BackupGapError(BackupError):
    """Nothing can continue the last backup, because journal records after it are gone: a full one is needed."""


class ProtocolError(ChatdError):
    """Bytes or a call that the wire protocol does not allow.

    reason: a close reason of the schema (protocol/schema.toml), the same word as the metric label and the log field.
    """

    def __init__(self, reason: str, message: str = "") -> None:
        super().__init__(message or reason)
        self.reason = reason


class PeerProtocolError(ProtocolError):
    """They broke it: the connection has to be closed with `reason`."""


class LocalProtocolError(ProtocolError):
    """The caller broke it: a bug in the code that uses this object, nothing was sent."""


class InternalError(ChatdError):
    """Our bug, or memory that a crashed process left behind: drop the link or end the process, never guess."""
