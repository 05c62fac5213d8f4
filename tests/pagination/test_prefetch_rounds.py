"""What read-ahead costs and gains: requests in vain, and round trips by a clock that they move."""

import asyncio

import pytest
from raw_pages import IMODEL, Call, PageServer, client, collect, listing
from virtual_time import now, run

from itwin_async import Limiter

LATENCY = 0.02


async def walked(pages: int, ahead: int) -> tuple[float, int]:
    """The round trips and the requests in vain of a list of so many pages."""
    plain = listing(pages, 1)

    async def answer(call: Call) -> None:
        await asyncio.sleep(LATENCY)
        await plain(call)

    async with (
        PageServer(answer) as server,
        client(server, limiter=Limiter(concurrency=32)) as itwin,
    ):
        since = now()
        assert await collect(itwin.imodels.list_extended_data(IMODEL).ahead(ahead)) == list(
            range(pages)
        )
        trips = (now() - since) / LATENCY
        await asyncio.sleep(5 * LATENCY)  # until what was sent in vain has arrived
        return trips, len(server.calls) - pages


@pytest.mark.parametrize(
    ("pages", "ahead", "trips", "in_vain"),
    [(1, 8, 1, 0), (2, 8, 2, 0), (3, 8, 3, 2), (5, 8, 3, 5), (7, 16, 4, 7), (12, 8, 4, 7),
     (60, 0, 60, 0), (60, 1, 60, 0), (60, 2, 22, 2), (60, 8, 10, 8), (100, 8, 14, 8),
     (200, 4, 42, 4), (200, 8, 25, 8), (200, 16, 16, 16)],
)  # fmt: skip
def test_a_list_takes_few_round_trips_and_wastes_few_requests(pages, ahead, trips, in_vain):
    taken, wasted = run(walked(pages, ahead), debug=False)
    assert round(taken) <= trips
    assert wasted <= in_vain
