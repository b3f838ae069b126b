"""One connection, frame by frame: for what a client library would never do."""

import hashlib
import hmac
import socket
from typing import Any, Self

from chatd.wire import Frame, Framer, encode, make
from chatd.wire.schema import Credential, Feature, Op

TIMEOUT_S = 15.0


class RawConnection:
    """Blocking. Frames are sent as asked and received in order."""

    def __init__(self, port: int, *, features: Feature = Feature(0), greet: bool = True) -> None:  # noqa: B008
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S)
        self._framer = Framer()
        self._frames: list[Frame] = []
        if greet:
            self.send(
                Op.HELLO, major=1, features=int(features), frame_bytes_max=65_535, window_frames=0, window_bytes=0,
                agent="raw",
            )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def send(self, op: Op, **fields: Any) -> None:
        self.sock.sendall(encode(make(op, **fields)))

    def receive(self) -> Frame | None:
        """The next frame; None at the end of the stream."""
        while not self._frames:
            data = self.sock.recv(65_536)
            if not data:
                return None
            self._frames.extend(self._framer.feed(data))
        return self._frames.pop(0)

    def expect(self, op: Op) -> Frame:
        frame = self.receive()
        assert frame is not None, f"the server closed instead of {op.name}"
        assert frame.op == op, frame
        return frame

    def auth(self, credential: Credential, proof: bytes = b"", identity: str = "", device: int = 0) -> None:
        self.send(Op.AUTH, credential=int(credential), device=device, identity=identity, proof=proof, label="raw")

    def resume(self, ticket: bytes, log_epoch: int = 0, cursor: bytes = b"") -> None:
        self.send(Op.RESUME, ticket=ticket, log_epoch=log_epoch, cursor=cursor)


def device_proof(key: bytes, nonce: bytes, device: int) -> bytes:
    message = b"chatd.v1 device" + nonce + device.to_bytes(8, "big")
    return hmac.new(key, message, hashlib.sha256).digest()
