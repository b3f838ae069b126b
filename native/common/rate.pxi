# Token buckets, of shards (addresses, connections) and of the hub (users).
#
# A bucket is one number, the theoretical arrival time of the generic cell rate algorithm (ITU-T I.371): each unit
# moves it on by 1/rate, and it may run ahead of the clock by the burst. No refilling, no timer, 8 bytes.

# Charge `units` at `per_s`, at most `burst` in a row. 0: granted. Otherwise nothing is charged, and the nanoseconds to
# wait.
@cython.cdivision(True)
cdef inline uint64_t rate_charge(uint64_t* tat_ns, uint64_t now_ns, uint64_t units, uint64_t per_s,
                                 uint64_t burst) noexcept nogil:
    cdef uint64_t interval_ns, tat, limit
    if per_s == 0:
        return 0
    interval_ns = <uint64_t>1000000000 / per_s
    tat = tat_ns[0] if tat_ns[0] > now_ns else now_ns
    tat += units * interval_ns
    limit = now_ns + burst * interval_ns
    if tat > limit:
        return tat - limit
    tat_ns[0] = tat
    return 0
