"""The control socket between supervisor and worker: JSON objects with descriptors beside them.

SOCK_SEQPACKET keeps a packet and its descriptors together and needs no framing; its end of file is how a worker
learns that the supervisor is gone. Both ends are one program, so a malformed packet is our bug, not a peer's.
"""

import array
import os
import socket
from typing import Any

import orjson
import trio

from chatd import logs
from chatd.errors import InternalError

PACKET_BYTES_MAX = 128 * 1024
# A shard gets one socket per listener; a link is four descriptors. The kernel's own bound is 253.
DESCRIPTORS_MAX = 64
ANCILLARY_BYTES = socket.CMSG_SPACE(DESCRIPTORS_MAX * array.array("i").itemsize)
# A worker that does not read its control socket is hung; the watchdog ends it, nobody waits for it.
SEND_TIMEOUT_S = 2.0


class Control:
    """One end. Owns the socket; descriptors received belong to the caller of receive()."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = trio.socket.from_stdlib_socket(sock)
        self._sending = trio.Lock()
        self.failed = False
        """receive() could not read any more, although the other side may still be there."""

    @staticmethod
    def pair() -> tuple["Control", socket.socket]:
        """This process' end, and the other one for the worker to inherit."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * PACKET_BYTES_MAX)
        return Control(ours), theirs

    async def send(self, message: dict[str, Any], descriptors: list[int] | None = None) -> bool:
        """Send one packet; the descriptors are duplicated to the other side. False: the other side is gone or deaf."""
        packet = orjson.dumps(message)
        if len(packet) > PACKET_BYTES_MAX or len(descriptors or ()) > DESCRIPTORS_MAX:
            raise InternalError(f"control packet {message.get('do')} is too large: {len(packet)} bytes")
        ancillary = []
        if descriptors:
            ancillary.append((socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors)))
        with trio.move_on_after(SEND_TIMEOUT_S):
            async with self._sending:
                try:
                    await self._sock.sendmsg([packet], ancillary)
                except (OSError, trio.ClosedResourceError):
                    return False
                return True
        return False

    async def receive(self) -> tuple[dict[str, Any], list[int]] | None:
        """The next packet and its descriptors; None when the other side is gone."""
        try:
            packet, ancillary, flags, _ = await self._sock.recvmsg(
                PACKET_BYTES_MAX, ANCILLARY_BYTES, socket.MSG_CMSG_CLOEXEC
            )
        except (ConnectionError, trio.ClosedResourceError):
            return None
        except OSError as error:
            logs.get().error("the control socket cannot be read any more and counts as closed", error=str(error))
            self.failed = True
            return None
        descriptors = array.array("i")
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
        if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
            for descriptor in descriptors:
                os.close(descriptor)
            raise InternalError("a control packet was cut: too large, or out of descriptors (see LimitNOFILE)")
        if not packet:
            return None
        return orjson.loads(packet), list(descriptors)

    def close(self) -> None:
        self._sock.close()
