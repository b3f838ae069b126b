"""The cursor of SYNC: what was made comes back, what another log made asks for everything."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatd.errors import PeerProtocolError
from chatd.wire import sync_cursor
from chatd.wire.sync_cursor import SyncCursor

LOG_EPOCH = (1 << 40) + 7
POS = st.integers(1, 2**48 - 1)


@given(st.builds(SyncCursor, POS, st.just(0), st.just(0)) | st.builds(SyncCursor, POS, POS, st.integers(0, 2**56 - 1)))
def test_a_cursor_comes_back_in_its_own_log_only(cursor: SyncCursor) -> None:
    data = sync_cursor.encode(LOG_EPOCH, cursor)
    assert sync_cursor.decode(LOG_EPOCH, data) == cursor
    assert sync_cursor.is_current(LOG_EPOCH, data)
    assert sync_cursor.decode(LOG_EPOCH + 1, data) == SyncCursor()
    assert not sync_cursor.is_current(LOG_EPOCH + 1, data)


@pytest.mark.parametrize("data", [b"", bytes(11), b"\x02" + bytes(10)])
def test_what_no_version_of_ours_made_asks_for_everything(data: bytes) -> None:
    assert sync_cursor.decode(LOG_EPOCH, data) == SyncCursor()
    assert not sync_cursor.is_current(LOG_EPOCH, data)


@pytest.mark.parametrize("size", [1, 10, 12, 23, 25])
def test_a_cursor_of_another_length_is_refused(size: int) -> None:
    data = b"\x01" + bytes(size - 1)
    assert not sync_cursor.is_current(LOG_EPOCH, data)
    with pytest.raises(PeerProtocolError, match=f"a cursor of {size} bytes"):
        sync_cursor.decode(LOG_EPOCH, data)
