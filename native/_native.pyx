# chatd._native: the engine, one extension made of included parts.
#
# Parts of one module share C functions and structs without a call through Python and without capsules, the compiler
# sees all of them at once and inlines across files, and there is one thing to build, load and sanitize. Price: a change
# of any part compiles all of it again, and names are shared, hence the prefixes (rd_, wr_, ring_, ...).
# There is deliberately no _native.pxd: a .pxd that is found by include path instead of beside the package compiles with
# a wrong struct layout or fails at import.
#
# Order matters: a part may use what was included before it.

cimport cython
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

include "base.pxi"
include "schema.pxi"
include "cursor.pxi"
include "ring.pxi"
include "ring_object.pxi"
include "link.pxi"
include "epoll.pxi"
include "journal.pxi"
include "hub_map.pxi"
include "hub_state.pxi"
include "hub_tail.pxi"
include "hub_conversation.pxi"
include "hub_device.pxi"
include "hub_link.pxi"
include "hub_ledger.pxi"
include "hub_send.pxi"
include "hub_park.pxi"
include "hub_session.pxi"
include "hub_publish.pxi"
include "hub_receipts.pxi"
include "hub_interest.pxi"
include "hub_poll.pxi"
include "hub_read.pxi"
include "hub_replay.pxi"
include "hub_life.pxi"
include "hub_core.pxi"

# The engine, from blocks of memory up to the Python object.
include "pool.pxi"
include "map64.pxi"
include "utf8.pxi"
include "settings.pxi"
include "frame_ref.pxi"
include "slab.pxi"
include "wheel.pxi"
include "ledger.pxi"
include "gate.pxi"
include "subscriptions.pxi"
include "inflight.pxi"
include "receipts.pxi"
include "rates.pxi"
include "upcalls.pxi"
include "shard_state.pxi"
include "queue.pxi"
include "window.pxi"
include "control.pxi"
include "order.pxi"
include "closing.pxi"
include "preauth.pxi"
include "proxy.pxi"
include "session.pxi"
include "hot_ops.pxi"
include "calls.pxi"
include "ephemeral.pxi"
include "fan_out.pxi"
include "uplink.pxi"
include "deadlines.pxi"
include "accept.pxi"
include "reactor.pxi"
include "door.pxi"
include "drain.pxi"
include "engine_core.pxi"
include "engine.pxi"
