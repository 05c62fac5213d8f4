"""Fixtures of the browser tests."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from chrome import Tab, browsing

from itwin_async.emulator import Emulator


@pytest.fixture
async def tab(emulator: Emulator) -> AsyncIterator[Tab]:
    """The page, in front of the small emulated platform."""
    async with browsing(emulator) as found:
        yield found


@pytest.fixture(autouse=True)
async def quiet_loop() -> None:
    """The driver's callbacks are slow in debug mode, and none of ours."""
    asyncio.get_running_loop().slow_callback_duration = 10
