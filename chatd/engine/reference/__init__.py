"""The reference engine: what a shard does, in plain Python, to be read and to be compared with.

It stands behind the same interface as the native engine (chatd.engine.interface) and makes the same decisions from the
same settings, but it owns no socket: open, feed, take and end are its only door. One State holds everything, and the
modules are functions over it: session (frames in), ops (what they do), sends (unanswered SENDs), topics (subscriptions
and ephemeral frames), output (queues, windows, LAG), uplink (the hub), deadlines, closing. There is one timer-less
clock, set by hand or looked at once per tick, and no memory limit beside the bounds of the single tables.
tests/differential feeds the same scripts to both engines.
"""

from chatd.engine.reference.engine import ReferenceEngine

__all__ = ["ReferenceEngine"]
