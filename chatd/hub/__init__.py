"""The hub: one order for everything durable, and the reads of it. docs/internals/hub.md is the boundary with the
core."""
