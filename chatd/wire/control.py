"""Control payloads: one MessagePack map with small integer keys, in REQUEST, REPLY and NOTICE.

The codec leaves them as bytes: a client that only chats needs no MessagePack. This is the one module of the layer that
imports the library, and it holds what a peer may send to bounds before objects are made.
"""

from collections.abc import Mapping
from typing import Any

import msgpack

from chatd.wire.errors import LocalProtocolError, PeerProtocolError

ITEMS_MAX = 4096
EMPTY = b"\x80"


def pack(values: Mapping[int, Any]) -> bytes:
    """The map as MessagePack, keys ascending. Values: None, bool, int, str, bytes, lists and maps of these."""
    if any(type(key) is not int or key < 0 for key in values):
        raise LocalProtocolError("INTERNAL", "the keys of a control payload are integers from 0")
    packed: bytes = msgpack.packb(dict(sorted(values.items())), use_bin_type=True)
    return packed


def unpack(data: bytes) -> dict[int, Any]:
    """The map. PeerProtocolError when it is not exactly one map with integer keys from 0 or has too many items.

    A server answers REPLY BAD_REQUEST and keeps the connection: the frame around it was well-formed.
    """
    try:
        values = msgpack.unpackb(
            data,
            raw=False,
            strict_map_key=False,
            max_array_len=ITEMS_MAX,
            max_map_len=ITEMS_MAX,
            max_ext_len=0,
        )
    except (ValueError, TypeError, msgpack.exceptions.UnpackException, RecursionError) as error:
        raise PeerProtocolError("BAD_FRAME", f"not a MessagePack map: {error}") from None
    if type(values) is not dict or any(type(key) is not int or key < 0 for key in values):
        raise PeerProtocolError("BAD_FRAME", "a control payload is one map with integer keys from 0")
    return values
