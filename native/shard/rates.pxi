# Addresses: how many connections each has, and how fast it may open more.
#
# Addresses are keyed by IPv4 address or IPv6 /64; each has a bucket (common/rate.pxi). The table is bounded; entries
# that hold nothing any more are swept when it is full. If it is full of busy ones the newcomer is counted by nobody but
# the listener's own bucket.

from libc.string cimport memcmp

cdef enum:
    ADDRESSES_MAX = 65536
    NETWORKS_MAX = 64

cdef struct address_t:
    uint64_t key                    # 0: free
    uint64_t tat_ns
    uint32_t connections
    uint32_t _unused

# A network: the first `bits` of `prefix`, IPv4 mapped into IPv6.
cdef struct network_t:
    uint8_t prefix[16]
    uint8_t bits

cdef struct networks_t:
    network_t networks[NETWORKS_MAX]
    uint32_t count

cdef struct addresses_t:
    address_t* entries              # index into it from by_key
    uint32_t used
    uint32_t free_count
    uint32_t* free_stack
    map64_t by_key


cdef bint addresses_init(addresses_t* addresses) noexcept nogil:
    addresses.entries = <address_t*>calloc(ADDRESSES_MAX, sizeof(address_t))
    addresses.free_stack = <uint32_t*>calloc(ADDRESSES_MAX, sizeof(uint32_t))
    return addresses.entries != NULL and addresses.free_stack != NULL

# address: 16 bytes, IPv4 mapped into IPv6.
cdef bint address_is_v4(const uint8_t* address) noexcept nogil:
    cdef int i
    for i in range(10):
        if address[i]:
            return False
    return address[10] == 0xFF and address[11] == 0xFF

cdef bint address_is_loopback(const uint8_t* address) noexcept nogil:
    cdef int i
    if address_is_v4(address):
        return address[12] == 127
    for i in range(15):
        if address[i]:
            return False
    return address[15] == 1

cdef bint network_covers(const network_t* network, const uint8_t* address) noexcept nogil:
    cdef int whole = network.bits >> 3
    cdef int rest = network.bits & 7
    if memcmp(network.prefix, address, <size_t>whole) != 0:
        return False
    return rest == 0 or (network.prefix[whole] ^ address[whole]) >> (8 - rest) == 0

cdef bint networks_cover(const networks_t* networks, const uint8_t* address) noexcept nogil:
    cdef uint32_t index
    for index in range(networks.count):
        if network_covers(&networks.networks[index], address):
            return True
    return False

cdef uint64_t address_key(const uint8_t* address) noexcept nogil:
    cdef uint64_t key = 0
    if address_is_v4(address):
        # Below 2^33, where no global IPv6 prefix lies.
        memcpy(&key, address + 12, 4)
        return key | (<uint64_t>1 << 32)
    memcpy(&key, address, 8)
    return key if key else 1

cdef void addresses_sweep(engine_t* e) noexcept nogil:
    cdef addresses_t* addresses = &e.addresses
    cdef uint32_t index
    for index in range(addresses.used):
        if addresses.entries[index].key and addresses.entries[index].connections == 0 \
                and addresses.entries[index].tat_ns <= e.now_ns:
            map64_remove(&addresses.by_key, addresses.entries[index].key)
            addresses.entries[index].key = 0
            addresses.free_stack[addresses.free_count] = index
            addresses.free_count += 1

cdef address_t* address_entry(engine_t* e, uint64_t key) noexcept nogil:
    cdef addresses_t* addresses = &e.addresses
    cdef uint32_t index = map64_get(&addresses.by_key, key)
    if index != <uint32_t>MAP_NONE:
        return &addresses.entries[index]
    if addresses.free_count == 0 and addresses.used == ADDRESSES_MAX:
        addresses_sweep(e)
    if addresses.free_count:
        index = addresses.free_stack[addresses.free_count - 1]
    elif addresses.used < ADDRESSES_MAX:
        index = addresses.used
    else:
        return NULL
    if not map64_put(&addresses.by_key, &e.pool, key, index):
        return NULL
    if addresses.free_count:
        addresses.free_count -= 1
    else:
        addresses.used += 1
    memset(&addresses.entries[index], 0, sizeof(address_t))
    addresses.entries[index].key = key
    return &addresses.entries[index]

# May this address have one more connection? True: it is counted, address_leave gives it back.
cdef bint address_enter(engine_t* e, conn_t* c, const uint8_t* address) noexcept nogil:
    cdef address_t* entry
    cdef settings_t* s = &e.settings
    if (s.loopback_unlimited and address_is_loopback(address)) or networks_cover(&e.exempt, address):
        return True
    entry = address_entry(e, address_key(address))
    if entry == NULL:
        return True
    if entry.connections >= s.connections_per_address_max or rate_charge(
            &entry.tat_ns, e.now_ns, 1, s.accepts_per_address_per_s, s.accepts_per_address_burst):
        return False
    entry.connections += 1
    c.address_index = <uint32_t>(entry - e.addresses.entries)
    c.flags |= CONN_OWN_ADDRESS
    return True

cdef void address_leave(engine_t* e, conn_t* c) noexcept nogil:
    if not c.flags & CONN_OWN_ADDRESS:
        return
    c.flags &= ~CONN_OWN_ADDRESS
    chatd_require(e.addresses.entries[c.address_index].connections > 0)
    e.addresses.entries[c.address_index].connections -= 1

cdef void addresses_dispose(engine_t* e) noexcept nogil:
    map64_dispose(&e.addresses.by_key, &e.pool)
    free(e.addresses.entries)
    free(e.addresses.free_stack)
