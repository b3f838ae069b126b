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
from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

include "common/base.pxi"
include "common/schema.pxi"
include "common/cursor.pxi"
include "common/rate.pxi"
include "common/ring.pxi"
include "common/ring_object.pxi"
include "common/link.pxi"
include "common/epoll.pxi"
include "common/journal.pxi"
include "common/portion.pxi"

# The hub: tables, order, rings.
include "hub/map.pxi"
include "hub/state.pxi"
include "hub/tail.pxi"
include "hub/conversation.pxi"
include "hub/device.pxi"
include "hub/audience.pxi"
include "hub/link.pxi"
include "hub/ledger.pxi"
include "hub/send.pxi"
include "hub/rights.pxi"
include "hub/rates.pxi"
include "hub/park.pxi"
include "hub/session.pxi"
include "hub/publish.pxi"
include "hub/receipts.pxi"
include "hub/interest.pxi"
include "hub/poll.pxi"
include "hub/read.pxi"
include "hub/replay.pxi"
include "hub/life.pxi"
include "hub/tables.pxi"
include "hub/core.pxi"

# The engine of a shard, from blocks of memory up to the Python object.
include "shard/pool.pxi"
include "shard/map64.pxi"
include "shard/utf8.pxi"
include "shard/settings.pxi"
include "shard/frame_ref.pxi"
include "shard/slab.pxi"
include "shard/wheel.pxi"
include "shard/ledger.pxi"
include "shard/gate.pxi"
include "shard/subscriptions.pxi"
include "shard/inflight.pxi"
include "shard/receipts.pxi"
include "shard/rates.pxi"
include "shard/upcalls.pxi"
include "shard/shard_state.pxi"
include "shard/bulk.pxi"
include "shard/queue.pxi"
include "shard/window.pxi"
include "shard/control.pxi"
include "shard/order.pxi"
include "shard/closing.pxi"
include "shard/preauth.pxi"
include "shard/proxy.pxi"
include "shard/session.pxi"
include "shard/hot_ops.pxi"
include "shard/calls.pxi"
include "shard/streams.pxi"
include "shard/burst.pxi"
include "shard/telemetry.pxi"
include "shard/ephemeral.pxi"
include "shard/fan_out.pxi"
include "shard/uplink.pxi"
include "shard/deadlines.pxi"
include "shard/accept.pxi"
include "shard/reactor.pxi"
include "shard/door.pxi"
include "shard/drain.pxi"
include "shard/engine_core.pxi"
include "shard/engine.pxi"
