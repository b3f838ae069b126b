"""How workers share cores: what each asks of the kernel's scheduler when it starts.

Facts: a durable send crosses shard, hub, disk and shard again, and at each crossing somebody wakes up. On a busy core
whoever wakes waits until the one that runs has used up its slice, 3 ms and more by default. Since 6.12 Linux lets every
thread ask for a slice of its own (sched_runtime in sched_setattr(2)), without privileges: a shorter one means to run
sooner, not more, and who wakes with a shorter slice preempts a longer one.
Consequence: hub and shards, for which somebody waits, ask for short slices; folder, indexer and backup, for which
nobody waits, ask for a long one and are batch processes, so that they never preempt anybody (fold_loop.py,
index_loop.py and backup/schedule.py). Beside two processes that never sleep, p99 of 100 records appended and synced is
0.2-2.6 ms with the hub's slice and 8-9 ms without (2-core Xeon, Linux 6.18, 2026-11).
Price: more switches while cores are full. Kernels before 6.12 ignore the slice.
"""

import ctypes
import os
import platform
import struct

# asm/unistd.h; glibc before 2.41 has no wrapper.
_SCHED_SETATTR = {"x86_64": 314, "aarch64": 274, "riscv64": 274}
# linux/sched/types.h, SCHED_ATTR_SIZE_VER0: size, policy, flags, nice, priority, runtime, deadline, period.
_ATTRIBUTES = struct.Struct("=IIQiIQQQ")

# The kernel takes 0.1 to 100 ms.
_LONG_NS = 10_000_000
SLICES_NS = {"hub": 100_000, "shard": 200_000} | dict.fromkeys(("folder", "indexer", "backup"), _LONG_NS)
POLICIES = dict.fromkeys(("hub", "shard"), os.SCHED_OTHER) | dict.fromkeys(
    ("folder", "indexer", "backup"), os.SCHED_BATCH
)


def schedule(role: str) -> bool:
    """Set policy and slice of the calling thread and of the threads it starts; its nice value stays.

    False when the role has no wishes or the kernel refuses: the worker then runs like any process.
    """
    number = _SCHED_SETATTR.get(platform.machine())
    if role not in SLICES_NS or number is None:
        return False
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    attributes = _ATTRIBUTES.pack(_ATTRIBUTES.size, POLICIES[role], 0, nice, 0, SLICES_NS[role], 0, 0)
    return bool(ctypes.CDLL(None).syscall(number, 0, attributes, 0) == 0)
