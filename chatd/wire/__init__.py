"""The wire layer: the protocol's reference codec, sans-I/O and in plain Python.

`make` and `encode` build frames, `Framer` finds them in received bytes, `Session` says whether they are legal now,
`explain` puts bytes into words. No sockets, no clocks, no tasks: the client, the reference engine and the tests share
it, and the native engine has to agree with it. The tables come from protocol/schema.toml (`chatd.wire.schema`).
"""

from chatd.wire.errors import LocalProtocolError, PeerProtocolError, WireError
from chatd.wire.frame import Frame, decode, decode_one, encode, make
from chatd.wire.framer import Framer
from chatd.wire.payload import decode_payload, encode_payload, stub_bytes
from chatd.wire.session import Phase, Session, Verdict

__all__ = [
    "Frame",
    "Framer",
    "LocalProtocolError",
    "PeerProtocolError",
    "Phase",
    "Session",
    "Verdict",
    "WireError",
    "decode",
    "decode_one",
    "decode_payload",
    "encode",
    "encode_payload",
    "make",
    "stub_bytes",
]
