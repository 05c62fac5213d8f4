"""One 429 and two hundred tasks: what the server sees of it."""

import asyncio
import itertools

import pytest
from raw_pages import IMODEL
from support import until

from itwin_async import ITwinSession, Limiter
from itwin_async.emulator import Emulator, Throttle

TASKS, SLOTS = 200, 16


@pytest.mark.parametrize("at", [0, pytest.param(60, marks=pytest.mark.slow)])
async def test_two_hundred_tasks_pause_together_and_come_back_one_after_another(at):
    async with Emulator(imodels=1, changesets=5, latency=0.02) as emulator:
        emulator.faults.add("get_imodel", Throttle(1), after=at)
        async with ITwinSession(
            emulator.credentials, base_url=emulator.url, limiter=Limiter(SLOTS)
        ) as itwin:
            await itwin.itwins.get_primary_account()
            emulator.requests.clear()
            tasks = [asyncio.create_task(itwin.imodels.get_imodel(IMODEL)) for _ in range(TASKS)]
            await until(lambda: itwin.stats.pauses)
            # The pause runs and the last slot is back: no request is in flight from here on.
            await until(lambda: itwin.limiter.in_use == 0)
            sent = len(emulator.requests)
            assert sent <= at + 2 * SLOTS  # who was answered before it may have been replaced
            await asyncio.gather(*tasks)
            assert itwin.limiter.in_use == itwin.limiter.waiting == 0
        assert itwin.stats.throttled == itwin.stats.pauses == 1
        assert itwin.stats.retries == 0  # a pause spends no attempt

    refused = next(got for got in emulator.requests if got.status == 429)
    before, behind = emulator.requests[:sent], emulator.requests[sent:]
    met = [got for got in before if got.started > refused.ended]
    assert len(met) <= SLOTS  # those on their way when the answer came
    assert len(before) + len(behind) == TASKS + 1
    starts = [got.started for got in behind]
    assert starts[0] - refused.ended >= 1.0
    # Spread: the first 16 take the best part of a second, so no quarter of one holds many.
    gaps = [later - first for first, later in itertools.pairwise(starts[:SLOTS])]
    assert sum(gaps) > 0.5
    assert emulator.max_in_flight <= SLOTS
