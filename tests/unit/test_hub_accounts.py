"""Users, devices, keys, sign-in data and idempotency keys."""

from pathlib import Path
from typing import Any

import argon2
import pytest
from support.hub_rig import Refused, Rig, either_core, plain_only, running

from chatd.hub.flags import UserFlag
from chatd.services import api_keys
from chatd.wire.schema import Close, Credential, ErrorCode, Method

__all__ = ["either_core"]
pytestmark = pytest.mark.usefixtures("either_core")


async def admin(rig: Rig) -> int:
    return await rig.user("root", UserFlag.ADMIN)


async def test_user_made_by_an_administrator_can_be_checked_and_found(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        root = await admin(rig)
        params = {1: "ann", 2: "Ann B.", 3: "correct horse", 4: False}
        ann = (await rig.request(root, Method.ADMIN_USER_CREATE, params))[1]
        with pytest.raises(Refused, match="taken"):
            await rig.request(root, Method.ADMIN_USER_CREATE, params)
        for _ in range(2):
            subject = await rig.rpc("credential", Credential.PASSWORD, "ann")
            assert subject | {"hash": ""} == {"user": ann, "name": "ann", "token_epoch": 0, "flags": 0, "hash": ""}
            assert argon2.PasswordHasher().verify(subject["hash"], "correct horse")
            found = {1: [[ann, "ann", "Ann B."]]}
            assert (await rig.request(ann, Method.USER_RESOLVE, {1: ["ann", "nobody"]})) == found
            assert (await rig.request(ann, Method.USER_GET, {1: [ann, 77]})) == found
            await rig.fold()
        listed = await rig.request(root, Method.ADMIN_USER_LIST, {2: 1})
        assert ([entry[0] for entry in listed[1]], listed[2]) == ([root], True)
        listed = await rig.request(root, Method.ADMIN_USER_LIST, {1: root})
        assert ([entry[1] for entry in listed[1]], listed[2]) == (["ann"], False)


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({1: "two words"}, "without spaces"),
        ({1: "x" * 65}, "1 to 64 bytes"),
        ({1: ""}, "1 to 64 bytes"),
        ({1: "a\u200bb"}, "invisible"),
        ({1: 5}, "text"),
        ({1: "ann", 3: "short"}, "8 to 256"),
        ({1: "ann", 4: 1}, "true or false"),
        ({}, "text"),
    ],
)
async def test_unacceptable_parameters_are_named(tmp_path: Path, params: dict[int, Any], reason: str) -> None:
    async with running(tmp_path) as rig:
        root = await admin(rig)
        with pytest.raises(Refused, match=reason) as refused:
            await rig.request(root, Method.ADMIN_USER_CREATE, params)
        assert refused.value.code == ErrorCode.BAD_REQUEST


async def test_methods_need_their_kind_of_account(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        ann, visitor = await rig.user("ann"), await rig.user("", UserFlag.GUEST)
        with pytest.raises(Refused, match="FORBIDDEN"):
            await rig.request(ann, Method.ADMIN_STATS)
        with pytest.raises(Refused, match="FORBIDDEN"):
            await rig.request(visitor, Method.CONVERSATION_CREATE, {1: 2, 2: ""})
        assert 1 in await rig.request(visitor, Method.DIRECT_OPEN, {1: ann})
        with pytest.raises(Refused, match="UNSUPPORTED"):
            await rig.request(ann, 9999)  # type: ignore[arg-type]


async def test_revoked_user_loses_sessions_and_gets_a_new_token_epoch(tmp_path: Path) -> None:
    plain_only()
    async with running(tmp_path) as rig:
        root, ann = await admin(rig), await rig.user("ann")
        rig.core.live.append((ann, 0, 4711, 3, 1))
        epoch = (await rig.request(root, Method.ADMIN_USER_REVOKE, {1: ann}))[1]
        assert epoch > 1_700_000_000_000
        assert ("kick", 0, 4711, Close.REVOKED) in rig.core.sent
        assert ("put_user", ann, epoch, 0) in rig.core.answers
        assert (await rig.rpc("credential", Credential.JWT, "ann"))["token_epoch"] == epoch
        assert (await rig.request(root, Method.ADMIN_USER_REVOKE, {1: ann}))[1] > epoch
        assert [ann, epoch] in await rig.rpc("revocations")


async def test_password_changes_with_the_old_one_only(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        ann = await rig.user("ann")
        assert await rig.rpc("credential", Credential.PASSWORD, "ann") is None
        await rig.request(ann, Method.PASSWORD_SET, {2: "first password"})
        with pytest.raises(Refused, match="FORBIDDEN"):
            await rig.request(ann, Method.PASSWORD_SET, {1: "wrong password", 2: "second password"})
        await rig.request(ann, Method.PASSWORD_SET, {1: "first password", 2: "second password"})
        subject = await rig.rpc("credential", Credential.PASSWORD, "ann")
        assert argon2.PasswordHasher().verify(subject["hash"], "second password")


async def test_api_key_is_checked_by_its_hash_and_revoked(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        root = await admin(rig)
        made = await rig.request(root, Method.ADMIN_API_KEY_CREATE, {1: root, 2: "ci", 3: True})
        parsed = api_keys.parsed(made[1])
        assert parsed is not None
        assert parsed[0] == made[2]
        subject = await rig.rpc("credential", Credential.API_KEY, parsed[0])
        assert subject["hash"] == api_keys.secret_hash(parsed[1])
        assert subject["acts_as_others"] is True
        assert subject["flags"] == UserFlag.ADMIN
        await rig.request(root, Method.ADMIN_API_KEY_REVOKE, {1: made[2]})
        assert await rig.rpc("credential", Credential.API_KEY, parsed[0]) is None
        assert await rig.rpc("credential", Credential.API_KEY, 99) is None


async def test_devices_are_made_checked_limited_and_revoked(tmp_path: Path) -> None:
    plain_only()
    async with running(tmp_path, user_devices_max=2) as rig:
        ann, bob = await rig.user("ann"), await rig.user("bob")
        first = (await rig.rpc("device", ann, 0, "phone"))["device"]
        made = await rig.request(ann, Method.DEVICE_KEY_CREATE, {1: "sensor"})
        with pytest.raises(Refused, match="LIMIT_REACHED"):
            await rig.rpc("device", ann, 0, "third")
        assert await rig.rpc("device", ann, first, "phone") == {"device": first, "created": False}
        for user, device in ((bob, first), (ann, 99)):
            with pytest.raises(Refused, match="AUTH_FAILED"):
                await rig.rpc("device", user, device, "")
        subject = await rig.rpc("credential", Credential.DEVICE_KEY, made[1])
        assert (subject["key"], subject["user"], subject["device"]) == (made[2], ann, made[1])
        rig.core.live.append((ann, 0, 5, first, 1))
        await rig.fold()
        listed = await rig.request(ann, Method.DEVICE_LIST)
        assert [[entry[0], entry[1], entry[3], entry[4]] for entry in listed[1]] == [
            [first, "phone", True, False],
            [made[1], "sensor", False, True],
        ]
        with pytest.raises(Refused, match="NOT_FOUND"):
            await rig.request(bob, Method.DEVICE_REVOKE, {1: made[1]})
        await rig.request(ann, Method.DEVICE_REVOKE, {1: made[1]})
        assert await rig.rpc("credential", Credential.DEVICE_KEY, made[1]) is None
        with pytest.raises(Refused, match="REVOKED"):
            await rig.rpc("device", ann, made[1], "")
        assert len((await rig.request(ann, Method.DEVICE_LIST))[1]) == 1


async def test_many_tokens_are_asked_for_in_one_call(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        ann, bob = await rig.user("ann"), await rig.user("bob")
        phone = (await rig.rpc("device", ann, 0, "phone"))["device"]
        tablet = (await rig.rpc("device", bob, 0, "tablet"))["device"]
        wanted = [["ann", phone], ["ann", tablet], ["ann", 0], ["nobody", phone], ["bob", tablet], ["two words", 99]]
        for _ in range(2):
            assert await rig.rpc("known_devices", wanted) == [[ann, 0], None, None, None, [bob, 0], None]
            await rig.fold()
        # Of folded and unfolded, the newest counts: a device made since, one revoked since, a user logged out.
        laptop = (await rig.rpc("device", ann, 0, "laptop"))["device"]
        await rig.request(bob, Method.DEVICE_REVOKE, {1: tablet})
        assert await rig.rpc("known_devices", [["ann", laptop], ["bob", tablet]]) == [[ann, 0], None]
        epoch = (await rig.request(await admin(rig), Method.ADMIN_USER_REVOKE, {1: ann}))[1]
        assert await rig.rpc("known_devices", [["ann", phone]]) == [[ann, epoch]]
        with pytest.raises(Refused, match="at most 256"):
            await rig.rpc("known_devices", [["ann", phone]] * 257)


async def test_tokens_make_users_and_guests_come_with_a_device(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        made = await rig.rpc("provision", "sub|123", "")
        assert await rig.rpc("provision", "sub|123", "") == made
        assert await rig.rpc("credential", Credential.JWT, "sub|123") == made
        visitor = await rig.rpc("guest", "Visitor", "browser")
        other = await rig.rpc("guest", "Visitor", "browser")
        assert visitor["user"] != other["user"]
        assert visitor["flags"] == UserFlag.GUEST
        assert await rig.rpc("device", visitor["user"], visitor["device"], "")
        found = await rig.rpc("credentials", [[Credential.JWT, "sub|123"], [Credential.JWT, "no body"]])
        assert found == [made, None]
        assert (await rig.rpc("ping"))[1] == rig.core.committed_pos
    async with running(tmp_path, guests=False, provision_jwt_users=False) as rig:
        for call in (("guest", "", ""), ("provision", "new", "")):
            with pytest.raises(Refused, match="AUTH_FAILED"):
                await rig.rpc(*call)
        assert (await rig.rpc("provision", "sub|123", "")) == made


async def test_idempotency_key_gives_the_first_result(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        root = await admin(rig)
        params = {0: b"once", 1: 2, 2: "group"}
        first = await rig.request(root, Method.CONVERSATION_CREATE, params)
        assert await rig.request(root, Method.CONVERSATION_CREATE, params) == first
        await rig.fold()
        assert await rig.request(root, Method.CONVERSATION_CREATE, params) == first
        assert await rig.request(root, Method.CONVERSATION_CREATE, params | {0: b"twice"}) != first
        with pytest.raises(Refused, match="another method"):
            await rig.request(root, Method.CONVERSATION_SET_TITLE, {0: b"once", 1: first[1], 2: ""})
        with pytest.raises(Refused, match="1 to 16 bytes"):
            await rig.request(root, Method.CONVERSATION_CREATE, params | {0: b""})
        key = await rig.request(root, Method.ADMIN_API_KEY_CREATE, {0: b"key", 1: root})
        assert await rig.request(root, Method.ADMIN_API_KEY_CREATE, {0: b"key", 1: root}) == {1: None, 2: key[2]}


async def test_names_cannot_be_tried_out_in_bulk(tmp_path: Path) -> None:
    async with running(tmp_path, resolves_per_min=5, resolves_burst=2) as rig:
        ann = await rig.user("ann")
        for _ in range(2):
            await rig.request(ann, Method.USER_RESOLVE, {1: ["bob"]})
        with pytest.raises(Refused, match="BUSY") as refused:
            await rig.request(ann, Method.USER_RESOLVE, {1: ["cyd"]})
        assert 1000 < refused.value.retry_after_ms <= 12_001


async def test_stats_count_what_happened(tmp_path: Path) -> None:
    plain_only()
    async with running(tmp_path) as rig:
        root = await admin(rig)
        figures = (await rig.request(root, Method.ADMIN_STATS))[1]
        assert figures["committed_pos"] == 1
        assert figures["batches_committed"] == 1
        assert figures["shards_linked"] == 1
