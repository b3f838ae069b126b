"""The hub's core in plain Python: what chatd._native.HubCore is compared with, and the easiest way to read it.

Same interface, same records in the rings, same batches, byte for byte; dictionaries and closures instead of tables and
undo entries, no eviction and no scratch. Clocks come in with poll, rings behind the small interface of Ring.
"""

from chatd.hub.reference.core import ReferenceHubCore

__all__ = ["ReferenceHubCore"]
