"""The commands as a newcomer types them, with the real server."""

import json
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from chatd.testing import ChatdServer


def chatd(server: ChatdServer, *arguments: str, code: int = 0) -> str:
    """Run the command as a process of its own; standard output, and standard error when it fails."""
    environment = {**os.environ, "CHATD_DATA": str(server.data)}
    done = subprocess.run(
        [sys.executable, "-m", "chatd", *arguments], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout if code == 0 else done.stderr


def lines(output: str) -> list[Any]:
    return [json.loads(line) for line in output.splitlines()]


def test_two_users_and_a_message(chatd_server: ChatdServer) -> None:
    chatd(chatd_server, "user", "add", "bob")
    cid, seq = chatd(chatd_server, "send", "--as", "alice", "--to", "bob", "hi").strip().split(":")
    tail = ("tail", "--as", "bob", "--idle", "1", "--json")
    assert [line["text"] for line in lines(chatd(chatd_server, *tail)) if "text" in line] == ["hi"]
    assert chatd(chatd_server, "send", "--as", "bob", "--group", cid, "and hi to you").startswith(f"{cid}:")
    chatd(chatd_server, "send", "--as", "alice", "--to", "bob", "bye")
    assert [line["text"] for line in lines(chatd(chatd_server, *tail)) if "text" in line] == ["and hi to you", "bye"]
    history = chatd(chatd_server, "history", cid, "--as", "alice")
    assert re.search(rf"^{cid}:{seq}  .* alice: hi$", history, re.MULTILINE)


def test_accounts_are_listed_and_revoked(chatd_server: ChatdServer) -> None:
    chatd(chatd_server, "user", "add", "carol", "--display", "Carol C.")
    listed = lines(chatd(chatd_server, "user", "list", "--json"))
    assert ("carol", "Carol C.") in {(user["name"], user["display_name"]) for user in listed}
    assert "all tokens, tickets and sessions have ended" in chatd(chatd_server, "user", "revoke", "carol")
    assert "there is no user 'nobody'" in chatd(chatd_server, "user", "revoke", "nobody", code=1)


def test_why_tells_the_way_of_a_message(chatd_server: ChatdServer) -> None:
    chatd(chatd_server, "user", "add", "dave")
    place = chatd(chatd_server, "send", "--as", "alice", "--to", "dave", "hi").strip()
    hops = lines(chatd(chatd_server, "why", place, "--user", "dave", "--json"))
    assert "stored" in {hop.get("hop") for hop in hops}
    assert "is not CID:SEQ" in chatd(chatd_server, "why", "nonsense", "--user", "dave", code=2)


def test_what_goes_wrong_is_said_with_what_to_do(chatd_server: ChatdServer, tmp_path: Path) -> None:
    said = chatd(chatd_server, "send", "--as", "alice", "--to", "stranger", "hi", code=1)
    assert said == "chatd: there is no user 'stranger' on this server: `chatd user add stranger` makes one\n"
    said = chatd(chatd_server, "tail", "--as", "bob", "--data", str(tmp_path), code=1)
    assert "jwt.key" in said
    assert "Traceback" not in said
    said = chatd(
        chatd_server, "send", "--as", "a", "--group", "1", "--server", "127.0.0.1:1", "--timeout", "0.5", "x", code=1
    )
    assert "is the server running there?" in said


def test_check_verifies_the_store_beside_the_running_server(chatd_server: ChatdServer) -> None:
    assert "the store is sound" in chatd(chatd_server, "check")
    (report,) = lines(chatd(chatd_server, "check", "--json"))
    assert report["sound"]


def test_receipts_and_presence_of_others(chatd_server: ChatdServer) -> None:
    chatd(chatd_server, "user", "add", "rob")
    place = chatd(chatd_server, "send", "--as", "rose", "--to", "rob", "hi").strip()
    assert chatd(chatd_server, "receipts", place, "--as", "rose").startswith("read by 0, delivered to 0 of 1\n")
    assert "is not CID:SEQ" in chatd(chatd_server, "receipts", "7", "--as", "rose", code=2)
    with chatd_server.blocking_client("rob") as rob:
        [seen] = lines(chatd(chatd_server, "presence", "rob", "--as", "rose", "--json"))
        assert (seen["user"], seen["state"], seen["last_seen_ms"]) == (rob.user, "online", 0)
        chatd(chatd_server, "presence", "--as", "rob", "--show-to", "nobody")
        assert chatd(chatd_server, "presence", "rob", "--as", "rose") == "rob: offline\n"
    assert "everyone or nobody or contacts" in chatd(chatd_server, "presence", "--as", "rob", "--show-to", "me", code=2)


def test_devices_are_listed_kicked_and_revoked(chatd_server: ChatdServer) -> None:
    with chatd_server.blocking_client("dora") as dora:
        me, command = dora.device, ("device", "list", "--as", "dora", "--json")
        assert [device["online"] for device in lines(chatd(chatd_server, *command)) if device["id"] == me] == [True]
        said = chatd(chatd_server, "device", "kick", str(me), "--as", "dora")
        assert said == f"device {me}: its session is closed\n"
        assert chatd(chatd_server, "device", "revoke", str(me), "--as", "dora").endswith("revoked\n")
    assert me not in [device["id"] for device in lines(chatd(chatd_server, *command))]


def test_a_message_is_answered_edited_reacted_to_pinned_forwarded_and_recalled(chatd_server: ChatdServer) -> None:
    chatd(chatd_server, "user", "add", "erin")
    place = chatd(chatd_server, "send", "--as", "alice", "--to", "erin", "helo").strip()
    cid, seq = place.split(":")
    chatd(chatd_server, "edit", place, "hello", "--as", "alice")
    chatd(chatd_server, "reply", place, "hi", "--as", "erin")
    chatd(chatd_server, "react", place, "👍", "--as", "erin")
    chatd(chatd_server, "pin", place, "--as", "erin")
    assert "you have reacted so already" in chatd(chatd_server, "react", place, "👍", "--as", "erin", code=1)
    chatd(chatd_server, "react", place, "👍", "--as", "erin", "--remove")
    chatd(chatd_server, "forward", place, cid, "--as", "erin")
    chatd(chatd_server, "recall", place, "--as", "alice")
    shown = chatd(chatd_server, "history", cid, "--as", "erin")
    for line in (
        "alice: (recalled or expired)", f"erin: (re {seq}) hi", f"erin: reacted to {seq}: 👍",
        f"erin: pinned {seq}", f"erin: took back, on {seq}: 👍", "erin: (from alice) helo", f"alice: recalled {seq}",
    ):  # fmt: skip
        assert re.search(rf"  {re.escape(line)}$", shown, re.MULTILINE), (line, shown)
    listed = lines(chatd(chatd_server, "history", cid, "--as", "erin", "--json"))
    assert {event["seq"] for event in listed if event.get("tombstone")} == {int(seq), int(seq) + 1}
    assert "was recalled" in chatd(chatd_server, "edit", place, "x", "--as", "alice", code=1)


def test_what_is_scheduled_is_listed_and_cancelled_and_drafts_are_kept(chatd_server: ChatdServer) -> None:
    chatd(chatd_server, "user", "add", "finn")
    cid = chatd(chatd_server, "send", "--as", "alice", "--to", "finn", "hi").split(":")[0]
    number = chatd(chatd_server, "schedule", "add", cid, "+3600", "later", "--as", "alice").strip()
    (listed,) = lines(chatd(chatd_server, "schedule", "list", "--as", "alice", "--json"))
    assert (str(listed["number"]), str(listed["cid"]), listed["text"]) == (number, cid, "later")
    chatd(chatd_server, "schedule", "cancel", number, "--as", "alice")
    assert chatd(chatd_server, "schedule", "list", "--as", "alice") == ""
    assert "is no time" in chatd(chatd_server, "schedule", "add", cid, "tomorrow", "x", "--as", "alice", code=1)
    chatd(chatd_server, "draft", cid, "dear f", "--as", "alice")
    (kept,) = lines(chatd(chatd_server, "draft", "--as", "alice", "--json"))
    assert (str(kept["cid"]), kept["text"]) == (cid, "dear f")
    chatd(chatd_server, "draft", cid, "--as", "alice")
    assert chatd(chatd_server, "draft", "--as", "alice") == ""


def test_a_device_is_commanded_and_answers(chatd_server: ChatdServer) -> None:
    with ThreadPoolExecutor(1) as pool:
        listening = ("command", "listen", "on", "--as", "gina", "--answer", "lit", "--timeout", "50", "--json")
        heard = pool.submit(chatd, chatd_server, *listening)
        with chatd_server.blocking_client("gina") as gina:
            deadline = time.monotonic() + 50
            while not (lamps := [device.id for device in gina.devices() if device.label == "chatd listen"]):
                assert time.monotonic() < deadline
                time.sleep(0.1)
        cid = chatd(chatd_server, "command", "open", str(lamps[0]), "--as", "gina").strip()
        off = lines(chatd(chatd_server, "command", "send", cid, "off", "--as", "gina", "--json"))
        assert [(answer["state"], answer["content"]) for answer in off] == [
            ("failed", "there is no command 'off' here")
        ]
        (done,) = lines(chatd(chatd_server, "command", "send", cid, "on", "50%", "--as", "gina", "--json"))
        assert (done["state"], done["content"]) == ("done", "lit")
        (taken,) = lines(heard.result())
        assert (taken["name"], taken["arguments"], taken["seq"]) == ("on", "50%", done["seq"])
    place = f"{cid}:{done['seq']}"
    assert lines(chatd(chatd_server, "command", "result", place, "--as", "gina", "--json")) == [done]
    sent = chatd(chatd_server, "command", "send", cid, "on", "--as", "gina", "--no-wait", "--json")
    (waiting,) = lines(chatd(chatd_server, "command", "waiting", cid, "--as", "gina", "--json"))
    assert waiting["seq"] == lines(sent)[0]["seq"]
    shown = chatd(chatd_server, "history", cid, "--as", "gina")
    assert re.search(r"  gina: command on 50%$", shown, re.MULTILINE)
    assert re.search(rf"  gina: command {done['seq']} done: lit$", shown, re.MULTILINE)


def test_a_customer_is_helped(chatd_server: ChatdServer) -> None:
    chatd(chatd_server, "user", "add", "hal")
    group = chatd(chatd_server, "group", "create", "support", "hal", "--as", "hugo").strip()
    chatd(chatd_server, "desk", "set", "helpdesk", group, "--as", "admin")
    assert {"name": "helpdesk", "cid": int(group), "title": "support"} in lines(
        chatd(chatd_server, "desk", "list", "--as", "ida", "--json")
    )
    cid = chatd(chatd_server, "desk", "open", "helpdesk", "no light", "--as", "ida").strip()
    (case,) = lines(chatd(chatd_server, "desk", "cases", "helpdesk", "--only", "open", "--as", "hal", "--json"))
    assert (str(case["cid"]), case["name"], case["subject"]) == (cid, "ida", "no light")
    chatd(chatd_server, "desk", "take", cid, "--as", "hal")
    assert "has this case now" in chatd(chatd_server, "desk", "take", cid, "--as", "hugo", code=1)
    chatd(chatd_server, "desk", "close", cid, "--as", "ida")
    chatd(chatd_server, "desk", "rate", cid, "3", "--as", "ida")
    shown = chatd(chatd_server, "history", cid, "--as", "ida")
    for line in (f"case {cid} is assigned, hal has it", f"case {cid} is closed", f"rated case {cid}: 3 of 5"):
        assert line in shown, shown
