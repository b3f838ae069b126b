"""Exit statuses with a meaning between worker and supervisor, from sysexits.h."""

EXIT_STORE_FAILED = 74
"""EX_IOERR: a write or an fsync failed. A restart recovers; three in a minute make the hub read-only."""
EXIT_REFUSES = 78
"""EX_CONFIG: bad settings, a directory in use, a corrupt file. A restart cannot help."""
