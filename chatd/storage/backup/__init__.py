"""Backups of the store in files: full and incremental, verified, restored to any commit (docs/backup.md).

A backup is a directory with a manifest and the journal since the backup before it; a full one also has a copy of the
main database, from which a restore may begin.
"""
