"""A test of the client library is a story, and runs on trio and on asyncio."""

from collections.abc import Awaitable, Callable

import anyio
import pytest

from chatd.client import Settings

Story = Callable[[], Awaitable[None]]
Play = Callable[[Story], None]

QUICK = Settings(start="beginning", backoff_base_s=0.05, backoff_max_s=0.3)
STORY_S_MAX = 60


@pytest.fixture(params=["trio", "asyncio"])
def play(request: pytest.FixtureRequest) -> Play:
    def run(story: Story) -> None:
        async def main() -> None:
            with anyio.fail_after(STORY_S_MAX):
                await story()

        anyio.run(main, backend=request.param)

    return run
