# Parking: records that wait for something the tables do not hold yet.
#
# Python is asked once per need, and the records wait behind it in order of arrival; when the answer comes they run
# again from their first check, as if they had just arrived. Sends of one device form one queue: while its first waits,
# later ones queue behind the same need, whatever they are for, or a cseq could overtake an older one into the same
# conversation. Bound: parked_records_max and parked_bytes_max over all needs; beyond, a SEND gets BUSY, a login
# UNAVAILABLE, and a position is dropped: the next one of that user says more.

cdef inline uint64_t hub_parked_cost(uint32_t bytes) noexcept nogil:
    return sizeof(hub_parked_t) + bytes

cdef inline const uint8_t* hub_parked_record(const hub_parked_t* parked) noexcept nogil:
    return <const uint8_t*>parked + sizeof(hub_parked_t)

cdef inline bint hub_is_sending(const uint8_t* record) noexcept nogil:
    return record[0] == LINK_S_SEND or record[0] == LINK_S_SKIP

cdef hub_need_t* hub_need(hub_t* h, uint32_t kind, uint64_t key, uint64_t cseq) noexcept nogil:
    cdef hub_need_t* need = <hub_need_t*>hmap_get(&h.needs[kind], key)
    if need != NULL:
        return need
    need = <hub_need_t*>calloc(1, sizeof(hub_need_t))
    if need == NULL:
        return NULL
    need.kind = kind
    need.key = key
    need.cseq = cseq
    if not hmap_put(&h.needs[kind], key, need):
        free(need)
        return NULL
    if kind == NEED_CONVERSATION:
        hub_upcall(h, UP_NEED_CONVERSATION, 0, key, 0, 0, 0)
    elif kind == NEED_USER:
        hub_upcall(h, UP_NEED_USER, 0, key, 0, 0, 0)
    elif kind == NEED_DEVICE:
        hub_upcall(h, UP_NEED_DEVICE, 0, key, 0, 0, 0)
    elif kind == NEED_JUDGEMENT:
        hub_upcall(h, UP_NEED_JUDGEMENT, 0, key, cseq, 0, 0)
    else:
        hub_upcall(h, UP_NEED_IDEMPOTENCY, 0, key, cseq, 0, 0)
    return need

# A judgement without its send: nobody is asked for it, and the next one of that device asks anew.
cdef void hub_need_drop(hub_t* h, hub_need_t* need) noexcept nogil:
    if need != NULL and need.kind == NEED_JUDGEMENT and need.first == NULL:
        hmap_remove(&h.needs[need.kind], need.key)
        free(need)

cdef bint hub_park_in(hub_t* h, hub_need_t* need, uint32_t shard, const uint8_t* record, size_t n) noexcept nogil:
    cdef hub_parked_t* parked
    if (h.parked_records >= h.settings.parked_records_max
            or h.parked_bytes + hub_parked_cost(<uint32_t>n) > h.settings.parked_bytes_max):
        return False
    parked = <hub_parked_t*>malloc(sizeof(hub_parked_t) + n)
    if parked == NULL:
        return False
    parked.next = NULL
    parked.shard = shard
    parked.generation = h.links[shard].generation
    parked.bytes = <uint32_t>n
    parked.cancelled = False
    memcpy(<void*>hub_parked_record(parked), record, n)
    if need.last == NULL:
        need.first = parked
    else:
        need.last.next = parked
    need.last = parked
    h.parked_records += 1
    h.parked_bytes += hub_parked_cost(<uint32_t>n)
    h.count.parked += 1
    return True

cdef uint64_t hub_call_cid(const uint8_t* record, size_t n) noexcept nogil:
    cdef cur_t body
    rd_init(&body, record + sizeof(link_call), n - sizeof(link_call))
    return rd_varint(&body)

# A record that cannot even wait is refused.
cdef void hub_refuse_parking(hub_t* h, uint32_t shard, const uint8_t* record, size_t n) noexcept nogil:
    cdef hub_send_t s
    cdef link_login login
    cdef link_call call
    if record[0] == LINK_S_LOGIN:
        memcpy(&login, record, sizeof(login))
        hub_login_refuse(h, shard, &login, ERR_UNAVAILABLE)
    elif record[0] == LINK_S_CALL:
        memcpy(&call, record, sizeof(call))
        hub_call_refuse(h, shard, &call, hub_call_cid(record, n), ERR_BUSY)
    elif hub_is_sending(record):
        s.shard = shard
        memcpy(&s.head, record, sizeof(link_send))
        s.body = record + sizeof(link_send)
        s.device = hub_device(h, s.head.device)
        hub_send_parse(&s)
        hub_refuse(h, &s, ERR_BUSY, h.settings.busy_retry_ms)

# Run one SEND, SKIP, LOGIN, POSITION, SUBSCRIBE or UNSUBSCRIBE, or let it wait.
cdef void hub_run(hub_t* h, uint32_t shard, const uint8_t* record, size_t n, uint64_t checked_cseq) noexcept nogil:
    cdef hub_need_t wait
    cdef hub_need_t* need = NULL
    cdef link_send head
    cdef hub_device_t* d = NULL
    cdef hub_outcome outcome
    memset(&wait, 0, sizeof(wait))
    if hub_is_sending(record):
        memcpy(&head, record, sizeof(head))
        d = hub_device(h, head.device)
        need = d.waits if d != NULL and hub_is_session(d, shard, head.handle) else NULL
        outcome = HUB_PARK if need != NULL else hub_on_send(h, shard, record, n, checked_cseq, &wait)
    elif record[0] == LINK_S_LOGIN:
        outcome = hub_on_login(h, shard, record, &wait)
    elif record[0] == LINK_S_POSITION:
        outcome = hub_on_position(h, record, &wait)
    else:
        outcome = hub_on_subscription(h, shard, record, &wait)
    if outcome != HUB_PARK:
        return
    if need == NULL:
        need = hub_need(h, wait.kind, wait.key, wait.cseq)
    if need == NULL or not hub_park_in(h, need, shard, record, n):
        hub_refuse_parking(h, shard, record, n)
        hub_need_drop(h, need)
        return
    if d != NULL:
        d.waits = need

# The answer has come (or is not needed any more): run what waited, in order. The need itself is gone before that.
cdef void hub_resume(hub_t* h, uint32_t kind, uint64_t key, uint64_t checked_cseq) noexcept nogil:
    cdef hub_need_t* need = <hub_need_t*>hmap_get(&h.needs[kind], key)
    cdef hub_parked_t* parked
    cdef hub_parked_t* following
    cdef hub_device_t* d
    if need == NULL:
        return
    hmap_remove(&h.needs[kind], key)
    parked = need.first
    while parked != NULL:
        if hub_is_sending(hub_parked_record(parked)):
            d = hub_device(h, (<const link_send*>hub_parked_record(parked)).device)
            if d != NULL and d.waits == need:
                d.waits = NULL
        parked = parked.next
    parked = need.first
    while parked != NULL:
        following = parked.next
        h.parked_records -= 1
        h.parked_bytes -= hub_parked_cost(parked.bytes)
        if (not parked.cancelled and h.links[parked.shard].up
                and h.links[parked.shard].generation == parked.generation):
            hub_run(h, parked.shard, hub_parked_record(parked), parked.bytes, checked_cseq)
        free(parked)
        parked = following
    free(need)

# The connection of a waiting login has closed. Rare, and the needs of users and devices are few.
cdef void hub_park_cancel_login(hub_t* h, uint32_t shard, uint64_t user, uint64_t device,
                                uint64_t handle) noexcept nogil:
    cdef hub_need_t* need
    cdef hub_parked_t* parked
    cdef int i
    for i in range(2):
        if i == 0:
            need = <hub_need_t*>hmap_get(&h.needs[<uint32_t>NEED_USER], user)
        else:
            need = <hub_need_t*>hmap_get(&h.needs[<uint32_t>NEED_DEVICE], device)
        parked = need.first if need != NULL else NULL
        while parked != NULL:
            if (parked.shard == shard and hub_parked_record(parked)[0] == LINK_S_LOGIN
                    and (<const link_login*>hub_parked_record(parked)).handle == handle):
                parked.cancelled = True
            parked = parked.next

cdef void hub_needs_dispose(hub_t* h) noexcept nogil:
    cdef int kind
    cdef uint64_t i
    cdef hub_need_t* need
    cdef hub_parked_t* parked
    for kind in range(<int>NEED_KINDS):
        for i in range(h.needs[kind].room):
            if h.needs[kind].places[i].key == 0:
                continue
            need = <hub_need_t*>h.needs[kind].places[i].entry
            while need.first != NULL:
                parked = need.first
                need.first = parked.next
                free(parked)
            free(need)
        hmap_dispose(&h.needs[kind])
