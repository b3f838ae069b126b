"""Servers under attack: with their everyday limits, but timeouts that a test can wait for."""

from pathlib import Path

from chatd.testing import ChatdServer

SHORT = (
    "accept.first_byte_timeout_ms=600",
    "accept.auth_timeout_ms=900",
    "session.frame_timeout_ms=500",
    "session.frame_bytes_per_s=1000000",
    "queue.soft_bytes=16384",
    "queue.low_bytes=4096",
    "queue.hard_bytes=65536",
    "queue.socket_send_bytes=4096",
    "queue.stall_timeout_ms=1500",
    "auth.guests=true",
)


def flags(*settings: str) -> list[str]:
    return ["--log", "json", *(word for setting in settings for word in ("--set", setting))]


def start(directory: Path, mode: str, *settings: str, lifted: bool) -> ChatdServer:
    shape = [] if mode == "inline" else ["--shards", "1"]
    return ChatdServer.start(
        directory,
        *flags(*SHORT, *settings),
        *shape,
        inline=mode == "inline",
        lifted=lifted,
    )
