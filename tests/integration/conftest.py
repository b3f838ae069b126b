"""The fixtures of chatd.testing, as an application has them, and of stories."""

from support.stories import play

from chatd.testing import chatd_server, chatd_server_fresh

__all__ = ["chatd_server", "chatd_server_fresh", "play"]
