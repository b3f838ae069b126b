"""The native engine and the reference engine cannot be told apart by any script (support.twins).

HYPOTHESIS_PROFILE=explore runs ten times as many scripts, longer ones, from seeds of the day. A script that fails is
shrunk and printed; what it found becomes a test with a name at the end of this file.
"""

import os
import re
import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import frames
from support.engine_scripts import START, script, shrink
from support.rig import LIFTED, MANUAL
from support.twins import CLIENTS_MAX, Step, Twins
from support.wire_strategies import FRAMES, raw_frames

from chatd.wire import encode

EXPLORES = os.environ.get("HYPOTHESIS_PROFILE") == "explore"
FIRST_SEED = time.time_ns() if EXPLORES else 0
SCRIPTS = 400 if EXPLORES else 16
STEPS = 600 if EXPLORES else 250

SMALL = replace(
    LIFTED,
    heartbeat_ms=4000,
    queue_ephemeral_bytes=1500,
    queue_soft_bytes=900,
    queue_drained_bytes=300,
    queue_hard_bytes=3000,
    queues_bytes_max=8192,
    window_frames_default=6,
    window_bytes_default=2000,
    sends_in_flight_max=3,
    pending_sends_max=6,
    refused_sends_max=4,
    requests_outstanding_max=3,
    subscriptions_max=3,
    positions_max=64,
    typing_interval_ms=800,
    preauth_connections_max=2,
)
SLOW = replace(MANUAL, frames_per_s=4, frames_burst=6, bytes_per_s=500, bytes_burst=1000, sends_per_s=2, sends_burst=3)
# Connections whose throttles end in the same tick go on in no promised order: ephemeral frames would show it.
SLOW = replace(SLOW, flood_factor=1, flood_ms=800, ack_interval_ms=24, queue_ephemeral_bytes=0)
SHORT = replace(LIFTED, queues_bytes_max=12_000, queue_soft_bytes=6_000, queue_hard_bytes=9_000)
SHORT = replace(SHORT, queue_drained_bytes=3_000, queue_ephemeral_bytes=4_000, typing_interval_ms=400)
PROFILES = {"default": MANUAL, "small": SMALL, "slow": SLOW, "short": SHORT}


def run(profile: str, steps: list[Step]) -> None:
    with Twins(PROFILES[profile]) as twins:
        for step in steps:
            twins.do(*step)
        for client in range(CLIENTS_MAX):
            twins.do("drain_output", client)


def fails(profile: str, steps: list[Step]) -> bool:
    try:
        run(profile, steps)
    except AssertionError:
        return True
    return False


def abbreviated(step: Step) -> str:
    """With frames as hexadecimal digits, zeros counted."""
    written = (value.hex(" ") if isinstance(value, bytes) else repr(value) for value in step)
    return re.sub(r"00(?: 00){8,}", lambda found: f"00*{(len(found[0]) + 1) // 3}", ", ".join(written))


@pytest.mark.parametrize("profile", PROFILES)
def test_no_script_tells_them_apart(profile: str) -> None:
    first = FIRST_SEED + 1000 * list(PROFILES).index(profile)
    for seed in range(first, first + SCRIPTS):
        steps = script(seed, STEPS)
        if fails(profile, steps):
            shortest = shrink(steps, lambda shorter: fails(profile, shorter))
            print(f"seed {seed}, profile {profile}:", *map(abbreviated, shortest), sep="\n    ")
            run(profile, shortest)


@given(st.lists(st.one_of(FRAMES.map(encode), raw_frames()), min_size=1, max_size=4), st.booleans(), st.integers(0, 99))
def test_no_frame_tells_them_apart(data: list[bytes], live: bool, seed: int) -> None:
    start = START[:2] if live else [("open", 0), ("feed", 0, frames.hello(7), "whole", 0)]
    run("small", [*start, ("feed", 0, b"".join(data), "random", seed), ("advance", 20)])
