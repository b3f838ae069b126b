# Logins: which connection speaks for a device.
#
# The hub's word decides, in the order of its ring records: user and device known, belonging together, not revoked, not
# too many at once. The answer REGISTERED fixes the sync position: what was committed up to it is found by SYNC, what
# comes after it is pushed, nothing lies between. Session epochs rise for ever (the base comes from the boot count), so
# a record of any earlier session is recognised.
# With REATTACH a shard tells a fresh hub who is connected: those sessions stand, nobody is asked, nobody is answered.

cdef void hub_say_registered(hub_t* h, uint32_t shard, uint64_t handle, uint64_t user, uint64_t device, uint16_t error,
                             const hub_device_t* d) noexcept nogil:
    cdef hub_room_t room
    cdef link_registered* record = <link_registered*>hub_control(h, shard, sizeof(link_registered), &room)
    if record == NULL:
        return
    memset(record, 0, sizeof(link_registered))
    record.type = LINK_H_REGISTERED
    record.error = error
    record.retry_after_ms = <uint32_t>h.settings.busy_retry_ms if hub_is_retryable(error) else 0
    record.handle = handle
    record.user = user
    record.device = device
    if d != NULL:
        record.session_epoch = d.session_epoch
        record.previous_epoch = d.previous_epoch
        record.cseq_stored = d.cseq_max
        record.pos = h.tail.committed_pos
        record.log_epoch = h.settings.log_epoch
    hub_control_done(&room)

cdef void hub_login_refuse(hub_t* h, uint32_t shard, const link_login* login, uint16_t error) noexcept nogil:
    hub_say_registered(h, shard, login.handle, login.user, login.device, error, NULL)

# Why this login cannot be, 0: it can.
cdef uint16_t hub_login_fault(hub_t* h, const link_login* login, const hub_device_t* d,
                              const hub_user_t* u) noexcept nogil:
    if d.user != login.user:
        return ERR_AUTH_FAILED
    if login.token_epoch < u.token_epoch or d.flags & DEVICE_FLAG_REVOKED:
        return ERR_REVOKED
    if hub_is_one_too_many(h, d, u) and not h.settings.devices_online_replace:
        return ERR_LIMIT_REACHED
    return 0

cdef inline bint hub_is_one_too_many(const hub_t* h, const hub_device_t* d, const hub_user_t* u) noexcept nogil:
    return d.handle == 0 and d.login.handle == 0 and u.online_count >= h.settings.devices_online_max

# The device of the user that came first goes, so that another one may come.
cdef void hub_replace_oldest(hub_t* h, const hub_user_t* u) noexcept nogil:
    cdef hub_device_t* oldest = u.online
    while oldest.next_of_user != NULL:
        oldest = oldest.next_of_user
    hub_say_kick(h, oldest.shard, oldest.handle, CLOSE_REPLACED)
    hub_session_end(h, oldest)

cdef hub_outcome hub_on_login(hub_t* h, uint32_t shard, const uint8_t* record, hub_need_t* wait) noexcept nogil:
    cdef link_login login
    cdef hub_user_t* u
    cdef hub_device_t* d
    cdef uint16_t fault
    memcpy(&login, record, sizeof(login))
    if login.flags & LINK_LOGIN_REATTACH:
        hub_reattach(h, shard, &login)
        return HUB_DONE
    u = hub_user(h, login.user)
    if u == NULL or not u.loaded:
        wait.kind = NEED_USER
        wait.key = login.user
        return HUB_PARK if login.user != 0 else hub_login_failed(h, shard, &login)
    d = hub_device(h, login.device)
    if d == NULL or not d.loaded:
        wait.kind = NEED_DEVICE
        wait.key = login.device
        return HUB_PARK if login.device != 0 else hub_login_failed(h, shard, &login)
    fault = hub_login_fault(h, &login, d, u)
    if fault != 0:
        hub_login_refuse(h, shard, &login, fault)
        return HUB_DONE
    if hub_is_one_too_many(h, d, u):
        hub_replace_oldest(h, u)
    hub_login_begin(h, shard, &login, d)
    return HUB_DONE

cdef hub_outcome hub_login_failed(hub_t* h, uint32_t shard, const link_login* login) noexcept nogil:
    hub_login_refuse(h, shard, login, ERR_AUTH_FAILED)
    return HUB_DONE

# The device is this connection's from now on. An older session is fenced here and asked to close.
cdef void hub_login_begin(hub_t* h, uint32_t shard, const link_login* login, hub_device_t* d) noexcept nogil:
    cdef hub_login_t* w = &d.login
    if w.handle != 0:
        # Two logins at once: the later one wins, the earlier connection closes without WELCOME.
        hub_say_kick(h, w.shard, w.handle, CLOSE_TAKEN_OVER)
    else:
        d.previous_login = NULL
        d.next_login = h.logins
        if h.logins != NULL:
            h.logins.previous_login = d
        h.logins = d
        w.old_handle = 0
    w.shard = shard
    w.handle = login.handle
    w.frame_bytes_max = login.frame_bytes_max
    w.features = login.features
    w.token_epoch = login.token_epoch
    if d.handle != 0:
        w.old_shard = d.shard
        w.old_handle = d.handle
        w.deadline_ms = h.tick_ms + h.settings.takeover_ms
        h.count.takeovers += 1
        hub_session_end(h, d)
        hub_say_kick(h, w.old_shard, w.old_handle, CLOSE_TAKEN_OVER)
    hub_login_try(h, d)

cdef void hub_login_forget(hub_t* h, hub_device_t* d) noexcept nogil:
    if d.previous_login != NULL:
        d.previous_login.next_login = d.next_login
    else:
        h.logins = d.next_login
    if d.next_login != NULL:
        d.next_login.previous_login = d.previous_login
    d.previous_login = d.next_login = NULL
    memset(&d.login, 0, sizeof(hub_login_t))

# Finish a login whose older connection is gone and whose device has nothing staged.
cdef void hub_login_try(hub_t* h, hub_device_t* d) noexcept nogil:
    cdef hub_login_t w = d.login
    if w.old_handle != 0 and h.tick_ms < w.deadline_ms:
        return
    if d.touched_pos > h.tail.committed_pos:
        return
    hub_login_forget(h, d)
    h.session_epoch_last += 1
    if not hub_session_begin(h, d, w.shard, w.handle, h.session_epoch_last):
        h.count.memory_refusals += 1
        hub_say_registered(h, w.shard, w.handle, d.user, d.device, ERR_UNAVAILABLE, NULL)
        return
    d.frame_bytes_max = w.frame_bytes_max
    d.features = w.features
    d.token_epoch = w.token_epoch
    d.registered_pos = h.tail.committed_pos + (64 if chatd_sabotage(SABOTAGE_LOGIN_RACE) else 0)
    h.count.logins += 1
    hub_say_registered(h, w.shard, w.handle, d.user, d.device, 0, d)

cdef void hub_logins_try(hub_t* h) noexcept nogil:
    cdef hub_device_t* d = h.logins
    cdef hub_device_t* following
    while d != NULL:
        following = d.next_login
        hub_login_try(h, d)
        d = following

# Milliseconds until the next login stops waiting for a close; -1: none waits.
cdef int64_t hub_logins_timeout(hub_t* h) noexcept nogil:
    cdef hub_device_t* d = h.logins
    cdef int64_t left, least = -1
    while d != NULL:
        if d.login.old_handle != 0:
            left = <int64_t>(d.login.deadline_ms - h.tick_ms) if d.login.deadline_ms > h.tick_ms else 0
            if least < 0 or left < least:
                least = left
        d = d.next_login
    return least

cdef void hub_reattach(hub_t* h, uint32_t shard, const link_login* login) noexcept nogil:
    cdef hub_device_t* d = hub_device_need(h, login.device)
    cdef hub_user_t* u = hub_user(h, login.user)
    if d == NULL:
        hub_say_kick(h, shard, login.handle, CLOSE_INTERNAL)
        return
    if d.loaded and d.user != login.user:
        hub_say_kick(h, shard, login.handle, CLOSE_REVOKED)
        return
    if (u != NULL and u.loaded and login.token_epoch < u.token_epoch) or (d.loaded and d.flags & DEVICE_FLAG_REVOKED):
        # The hub that took the right away may have died before it could say so.
        hub_say_kick(h, shard, login.handle, CLOSE_REVOKED)
        return
    if d.login.handle != 0 or (d.handle != 0 and d.session_epoch >= login.session_epoch):
        # A newer connection has the device, or waits for it; that one need not wait for this close too.
        hub_say_kick(h, shard, login.handle, CLOSE_TAKEN_OVER)
        return
    if d.handle != 0:
        hub_say_kick(h, d.shard, d.handle, CLOSE_TAKEN_OVER)
        hub_session_end(h, d)
    d.user = login.user
    d.token_epoch = login.token_epoch
    d.frame_bytes_max = login.frame_bytes_max
    d.features = login.features
    d.registered_pos = 0
    if not hub_session_begin(h, d, shard, login.handle, login.session_epoch):
        hub_say_kick(h, shard, login.handle, CLOSE_INTERNAL)
        return
    if login.session_epoch > h.session_epoch_last:
        h.session_epoch_last = login.session_epoch
    # What was revoked loses its session when this is answered.
    u = hub_user(h, login.user)
    if u == NULL or not u.loaded:
        hub_need(h, NEED_USER, login.user, 0)
    if not d.loaded:
        hub_need(h, NEED_DEVICE, login.device, 0)

cdef void hub_on_closed(hub_t* h, uint32_t shard, const link_closed* closed) noexcept nogil:
    cdef hub_device_t* d = hub_device(h, closed.device)
    if hub_is_session(d, shard, closed.handle):
        hub_session_end(h, d)
        hub_upcall(h, UP_CLOSED, shard, closed.handle, closed.user, closed.device, closed.reason)
    elif d != NULL and d.login.handle != 0 and d.login.old_handle == closed.handle and d.login.old_shard == shard:
        d.login.old_handle = 0
        hub_login_try(h, d)
    elif d != NULL and d.login.handle == closed.handle and d.login.shard == shard:
        hub_login_forget(h, d)
    else:
        hub_park_cancel_login(h, shard, closed.user, closed.device, closed.handle)

# A shard is gone: so are its sessions, and the older connections that logins elsewhere wait for.
cdef void hub_shard_forget(hub_t* h, uint32_t shard) noexcept nogil:
    cdef hub_device_t* d
    cdef hub_device_t* following
    # Taken out one by one, 100,000 of them would cost seconds.
    hub_audiences_drop(h)
    while h.links[shard].devices != NULL:
        hub_session_end(h, h.links[shard].devices)
    d = h.logins
    while d != NULL:
        following = d.next_login
        if d.login.shard == shard:
            hub_login_forget(h, d)
        elif d.login.old_handle != 0 and d.login.old_shard == shard:
            d.login.old_handle = 0
            hub_login_try(h, d)
        d = following

# A newer token epoch ends the sessions that older credentials opened.
cdef void hub_user_revoke(hub_t* h, hub_user_t* u) noexcept nogil:
    cdef hub_device_t* d = u.online
    while d != NULL:
        if d.token_epoch < u.token_epoch:
            hub_say_kick(h, d.shard, d.handle, CLOSE_REVOKED)
        d = d.next_of_user
