"""The embedded store: append first, fold later. docs/internals/journal.md explains files and guarantees."""
