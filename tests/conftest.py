"""What every test gets: a loop that complains, and a look for what was left behind."""

import asyncio
import gc
import math
import shutil
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Self

import pytest
from blockbuster import BlockBuster
from hypothesis import settings
from secrecy import canaries
from support import cancel_kind

from itwin_async import ITwinSession, Limiter, Retry
from itwin_async.emulator import Emulator

settings.register_profile("fixed", derandomize=True, deadline=None, max_examples=100)
settings.load_profile("fixed")

__all__ = ["canaries", "cancel_kind"]  # fixtures for all


def pytest_configure() -> None:
    """A shell's background job ignores Ctrl-C, and so would the processes that tests start."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """Collecting garbage after each test then looks at the objects of tests alone."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="session")
def config_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A developer's own login is not the tests': neither here nor in processes that they start."""
    with pytest.MonkeyPatch.context() as patch:
        home = tmp_path_factory.mktemp("config")
        patch.setenv("XDG_CONFIG_HOME", str(home))
        patch.setenv("APPDATA", str(home))
        yield home


@pytest.fixture(autouse=True)
def no_login(config_home: Path) -> Iterator[None]:
    """A test's login is no other test's."""
    yield
    for left in config_home.iterdir():
        shutil.rmtree(left)


@pytest.fixture(autouse=True)
def blocking_calls() -> Iterator[None]:
    """A blocking call of ours inside the loop is an error."""
    blockbuster = BlockBuster(["itwin_async"])
    blockbuster.functions["threading.Lock.acquire"].can_block_in(
        "coverage/collector.py", "lock_data"
    )
    blockbuster.activate()
    yield
    blockbuster.deactivate()


@pytest.fixture(autouse=True)
async def leaks(request: pytest.FixtureRequest) -> AsyncIterator[None]:
    """No task and no slot may be left when a test is over."""
    # How long a turn took is the machine's affair; what blocks is `blocking_calls`'.
    asyncio.get_running_loop().slow_callback_duration = math.inf
    before = asyncio.all_tasks()
    limiters = LimiterWatch()
    with limiters:
        yield
    gc.collect()
    for _ in range(5):  # cancelled tasks need a turn of the loop to end
        await asyncio.sleep(0)
    left = asyncio.all_tasks() - before - {asyncio.current_task()}
    assert not left, f"tasks left: {left}"
    for limiter in limiters.seen:
        assert limiter.in_use == 0, f"slots left: {limiter.in_use}"
        assert limiter.waiting == 0, f"waiters left: {limiter.waiting}"


class LimiterWatch:
    """Remembers every limiter that is created."""

    def __enter__(self) -> Self:
        self.seen: list[Limiter] = []
        self._init = Limiter.__init__
        original, seen = self._init, self.seen

        def init(limiter: Limiter, *args: Any, **kwargs: Any) -> None:
            original(limiter, *args, **kwargs)
            seen.append(limiter)

        Limiter.__init__ = init  # type: ignore[method-assign]
        return self

    def __exit__(self, *_: object) -> None:
        Limiter.__init__ = self._init  # type: ignore[method-assign]


@pytest.fixture
async def emulator() -> AsyncIterator[Emulator]:
    """A small emulated platform."""
    async with Emulator(itwins=3, imodels=6, changesets=25, extensions=30) as running:
        yield running


@pytest.fixture
async def itwin(emulator: Emulator) -> AsyncIterator[ITwinSession]:
    """A session with it that does not wait long to try again."""
    retry = Retry(base=0.001)
    async with ITwinSession(emulator.credentials, base_url=emulator.url, retry=retry) as session:
        yield session
