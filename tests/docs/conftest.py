"""A server for the commands of the documentation, which find it by environment variables instead of ./data."""

import os
import sys
from pathlib import Path

import pytest

from chatd.testing import ChatdServer


@pytest.fixture
def tour_environment(chatd_server_fresh: ChatdServer) -> dict[str, str]:
    return {
        **os.environ,
        "CHATD_SERVER": chatd_server_fresh.address,
        "CHATD_DATA": str(chatd_server_fresh.data),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
