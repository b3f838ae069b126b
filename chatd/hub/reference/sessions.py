"""Logins, takeover and what a dying shard leaves. Mirrors native/hub/session.pxi; the theory is there."""

from chatd.hub.reference import links
from chatd.hub.reference.state import Device, Login, Need, State, User
from chatd.hub.reference.subscriptions import unsubscribe_all
from chatd.wire.schema import Close, ErrorCode

REATTACH = 1
REVOKED = 1


def on_login(hub: State, link: links.Link, record: bytes) -> Need | None:
    fields = links.LOGIN.unpack(record)
    _, flags, _, frame_bytes_max, handle, user_id, device_id, token_epoch, session_epoch, features, _ = fields
    login = Login(link.shard, handle, token_epoch, frame_bytes_max, features)
    if flags & REATTACH:
        reattach(hub, link, login, user_id, device_id, session_epoch)
        return None
    user = hub.users.get(user_id)
    if user_id and (user is None or not user.loaded):
        return ("user", user_id)
    device = hub.devices.get(device_id)
    if user is not None and device_id and (device is None or not device.loaded):
        return ("device", device_id)
    if user is None or device is None or device.user != user_id:
        error = ErrorCode.AUTH_FAILED
    elif token_epoch < user.token_epoch or device.flags & REVOKED:
        error = ErrorCode.REVOKED
    elif (too_many := is_one_too_many(hub, device, user)) and not hub.settings.devices_online_replace:
        error = ErrorCode.LIMIT_REACHED
    else:
        if too_many:
            replace_oldest(hub, user)
        begin(hub, login, device)
        return None
    link.say_registered(error, handle, user_id, device_id)
    return None


def is_one_too_many(hub: State, device: Device, user: User) -> bool:
    return not device.handle and device.login is None and len(user.online) >= hub.settings.devices_online_max


def replace_oldest(hub: State, user: User) -> None:
    """The device of the user that came first goes, so that another one may come."""
    oldest = user.online[-1]
    hub.links[oldest.shard].say_kick(oldest.handle, Close.REPLACED)
    end_session(hub, oldest)


def begin(hub: State, login: Login, device: Device) -> None:
    """The device is this connection's from now on; an older session is fenced here and asked to close."""
    if device.login is not None:
        hub.links[device.login.shard].say_kick(device.login.handle, Close.TAKEN_OVER)
        login.old, login.deadline_ms = device.login.old, device.login.deadline_ms
    else:
        hub.logins.insert(0, device)
    device.login = login
    if device.handle:
        login.old = (device.shard, device.handle)
        login.deadline_ms = hub.tick_ms + hub.settings.takeover_ms
        end_session(hub, device)
        hub.links[login.old[0]].say_kick(login.old[1], Close.TAKEN_OVER)
    attempt(hub, device)


def forget(hub: State, device: Device) -> None:
    hub.logins.remove(device)
    device.login = None


def attempt(hub: State, device: Device) -> None:
    """Finish a login whose older connection is gone and whose device has nothing staged."""
    login = device.login
    assert login is not None
    if login.old is not None and hub.tick_ms < login.deadline_ms:
        return
    if device.touched_pos > hub.committed_pos:
        return
    forget(hub, device)
    hub.session_epoch_last += 1
    begin_session(hub, device, login, hub.session_epoch_last)
    device.registered_pos = hub.committed_pos
    fixed = (device.session_epoch, device.previous_epoch, device.cseq_max, hub.committed_pos, hub.settings.log_epoch)
    hub.links[login.shard].say_registered(0, login.handle, device.user, device.device, *fixed)


def attempt_all(hub: State) -> None:
    for device in list(hub.logins):
        attempt(hub, device)


def begin_session(hub: State, device: Device, login: Login, session_epoch: int) -> None:
    device.shard, device.handle, device.session_epoch = login.shard, login.handle, session_epoch
    device.token_epoch, device.frame_bytes_max = login.token_epoch, login.frame_bytes_max
    device.features = login.features
    device.marks.clear()
    user = hub.user(device.user)
    user.online.insert(0, device)
    if user.watched and len(user.online) == 1:
        hub.upcalls.append(("presence", user.user, True))
    hub.links[login.shard].devices.insert(0, device)


def end_session(hub: State, device: Device) -> None:
    """From here on nothing of the session is accepted and nothing is pushed to it."""
    user = hub.users[device.user]
    user.online.remove(device)
    if user.watched and not user.online:
        hub.upcalls.append(("presence", user.user, False))
    hub.links[device.shard].devices.remove(device)
    unsubscribe_all(hub, device)
    device.previous_epoch = device.session_epoch
    device.handle = 0
    device.marks.clear()


def reattach(hub: State, link: links.Link, login: Login, user_id: int, device_id: int, session_epoch: int) -> None:
    """A live session on a fresh link stands without an answer."""
    device = hub.device(device_id)
    if device.loaded and device.user != user_id:
        link.say_kick(login.handle, Close.REVOKED)
        return
    user = hub.users.get(user_id)
    is_old = user is not None and user.loaded and login.token_epoch < user.token_epoch
    if is_old or (device.loaded and device.flags & REVOKED):
        link.say_kick(login.handle, Close.REVOKED)
        return
    if device.login is not None or (device.handle and device.session_epoch >= session_epoch):
        link.say_kick(login.handle, Close.TAKEN_OVER)
        return
    if device.handle:
        hub.links[device.shard].say_kick(device.handle, Close.TAKEN_OVER)
        end_session(hub, device)
    device.user, device.registered_pos = user_id, 0
    begin_session(hub, device, login, session_epoch)
    hub.session_epoch_last = max(hub.session_epoch_last, session_epoch)
    if not hub.user(user_id).loaded:
        hub.ask(("user", user_id))
    if not device.loaded:
        hub.ask(("device", device_id))


def on_closed(hub: State, link: links.Link, record: bytes) -> None:
    _, reason, _, handle, user_id, device_id, _ = links.CLOSED.unpack(record)
    device = hub.devices.get(device_id)
    if device is not None and device.is_session(link.shard, handle):
        end_session(hub, device)
        hub.upcalls.append(("closed", link.shard, handle, user_id, device_id, reason))
    elif device is not None and device.login is not None and device.login.old == (link.shard, handle):
        device.login.old = None
        attempt(hub, device)
    elif (
        device is not None
        and device.login is not None
        and (device.login.shard, device.login.handle) == (link.shard, handle)
    ):
        forget(hub, device)
    else:
        for need in (("user", user_id), ("device", device_id)):
            for parked in hub.needs.get(need, []):
                is_login = parked.record[0] == links.S_LOGIN and parked.link.shard == link.shard
                if is_login and links.LOGIN.unpack(parked.record)[4] == handle:
                    parked.cancelled = True


def forget_shard(hub: State, shard: int) -> None:
    """A shard is gone: so are its sessions, and the older connections that logins elsewhere wait for."""
    while hub.links[shard].devices:
        end_session(hub, hub.links[shard].devices[0])
    for device in list(hub.logins):
        assert device.login is not None
        if device.login.shard == shard:
            forget(hub, device)
        elif device.login.old is not None and device.login.old[0] == shard:
            device.login.old = None
            attempt(hub, device)
