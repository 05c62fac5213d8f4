"""Many lists as one stream: bounded, and in the order of arrival."""

import asyncio

import pytest
from merging import lists, name_of, pairs
from raw_pages import IMODEL, PageServer, at_rest, client, listing
from support import until

from itwin_async import Limiter, Retry, merged
from itwin_async.emulator import Delay, Emulator, Status


@pytest.mark.parametrize("workers", [1, 3, 20])
@pytest.mark.parametrize("buffer", [1, 7, 1_000])
async def test_every_item_comes_once_and_in_the_order_of_its_list(workers, buffer):
    async with PageServer(listing(13, 4)) as server, client(server) as itwin:
        async with merged(lists(itwin, 10), workers=workers, buffer=buffer) as items:
            got = pairs([item async for item in items])
        assert len(got) == 130
        for name in range(10):
            assert [index for of, index in got if of == name] == list(range(13))


async def test_items_come_in_the_order_of_arrival():
    plain, gates = listing(3, 3), [asyncio.Event() for _ in range(3)]

    async def answer(call) -> None:
        await call.until(gates[name_of(call)])
        await plain(call)

    async with (
        PageServer(answer) as server,
        client(server) as itwin,
        merged(lists(itwin, 3), workers=3) as items,
    ):
        for name in (1, 2, 0):
            gates[name].set()
            got = pairs([await anext(items) for _ in range(3)])
            assert got == [(name, 0), (name, 1), (name, 2)]


async def test_no_more_lists_run_at_once_than_there_are_workers():
    plain, gate = listing(3, 3), asyncio.Event()

    async def answer(call) -> None:
        await call.until(gate)
        await plain(call)

    async with PageServer(answer) as server, client(server) as itwin:
        async with merged(lists(itwin, 20), workers=3) as items:
            await until(lambda: server.in_flight == 3)
            assert await at_rest(server) == 3
            gate.set()
            assert len([item async for item in items]) == 60
        assert server.most <= 3


@pytest.mark.slow
async def test_a_slow_consumer_slows_the_requests():
    async with (
        PageServer(listing(40, 1)) as server,
        client(server) as itwin,
        merged(lists(itwin, 4), workers=2, buffer=5) as items,
    ):
        for taken in range(1, 20):
            await anext(items)
            # What was taken, what waits, and one item in the hand of each worker.
            assert await at_rest(server) <= taken + 5 + 2


async def test_a_stopped_consumer_gets_everything_when_it_goes_on():
    async with PageServer(listing(11, 2)) as server, client(server) as itwin:
        async with merged(lists(itwin, 6), workers=4, buffer=2) as items:
            first = await anext(items)
            stopped = await at_rest(server)
            assert itwin.limiter.in_use == 0
            rest = [item async for item in items]
        assert stopped < 12
        assert sorted(pairs([first, *rest])) == [(n, i) for n in range(6) for i in range(11)]


@pytest.mark.parametrize("kind", ["list", "generator", "async generator"])
async def test_lists_are_drawn_as_workers_get_to_them(kind):
    drawn = 0

    async with PageServer(listing(5, 1)) as server, client(server) as itwin:

        def some():
            nonlocal drawn
            for pager in lists(itwin, 50):
                drawn += 1
                yield pager

        async def some_async():
            for pager in some():
                await asyncio.sleep(0)
                yield pager

        source = {"list": lambda: lists(itwin, 50), "generator": some}.get(kind, some_async)()
        async with merged(source, workers=3, buffer=2) as items:
            got = [await anext(items) for _ in range(20)]
            await at_rest(server)
            assert drawn <= 3 + 20 // 5 + 3
            got += [item async for item in items]
        assert len(set(pairs(got))) == len(got) == 250
        assert drawn in {0, 50}


async def test_a_source_that_waits_holds_up_nothing_that_runs():
    go = asyncio.Event()

    async with PageServer(listing(5, 1)) as server, client(server) as itwin:

        async def source():
            first, second = lists(itwin, 2)
            yield first
            await go.wait()
            yield second

        async with merged(source(), workers=4) as items:
            assert pairs([await anext(items) for _ in range(5)]) == [(0, n) for n in range(5)]
            go.set()
            assert len([item async for item in items]) == 5


async def test_no_lists_are_an_empty_stream():
    for nothing in ([], iter(()), ()):
        async with merged(nothing) as items:
            assert [item async for item in items] == []
            with pytest.raises(StopAsyncIteration):
                await anext(items)


async def test_thousands_of_lists_are_one_stream():
    async with PageServer(listing(2, 2)) as server, client(server) as itwin:
        pager = itwin.imodels.list_extended_data("7")
        empty = pager.take(0)  # asks for nothing
        source = (pager if n % 50 == 0 else empty for n in range(5_000))
        async with merged(source, workers=50) as items:
            assert len([item async for item in items]) == 200
        assert len(server.calls) == 100


async def test_lists_with_read_ahead_may_be_merged():
    async with PageServer(listing(30, 3)) as server, client(server) as itwin:
        async with merged([entry.ahead(8) for entry in lists(itwin, 5)]) as items:
            got = pairs([item async for item in items])
        for name in range(5):
            assert [index for of, index in got if of == name] == list(range(30))


async def test_one_slot_is_enough():
    async with (
        PageServer(listing(8, 4, 100_000)) as server,
        client(server, limiter=Limiter(concurrency=1)) as itwin,
        asyncio.timeout(20),
    ):
        async with merged(lists(itwin, 5)) as items:
            async for item in items:
                if item.changeset_index == 0:
                    await anext(aiter(itwin.imodels.list_extended_data("9")))
        assert itwin.limiter.in_use == 0


async def test_a_stream_is_used_once():
    stream = merged([])
    async with stream:
        with pytest.raises(RuntimeError, match="once"):
            await stream.__aenter__()
    with pytest.raises(RuntimeError, match="once"):
        async with stream:
            pass


async def test_a_stream_is_read_inside_its_block(itwin):
    stream = merged([itwin.imodels.list_extended_data(IMODEL)])
    with pytest.raises(RuntimeError, match="inside"):
        await anext(stream)
    async with stream:
        await anext(stream)
    with pytest.raises(RuntimeError, match="inside"):
        await anext(stream)


async def test_nothing_is_asked_for_before_the_block(emulator, itwin):
    drawn = []
    merged(drawn.append(n) for n in range(3))
    await asyncio.sleep(0)
    assert drawn == []
    assert emulator.requests == []


@pytest.mark.parametrize(
    ("options", "kind"),
    [({"workers": 0}, ValueError), ({"workers": 1.5}, TypeError), ({"buffer": 0}, ValueError),
     ({"buffer": "2"}, TypeError), ({"on_error": 5}, TypeError)],
)  # fmt: skip
def test_arguments_are_checked_at_the_call(options, kind):
    with pytest.raises(kind, match=next(iter(options))):
        merged([], **options)


def test_one_list_is_not_many(itwin):
    for wrong in (itwin.imodels.list_extended_data(IMODEL), None, 5):
        with pytest.raises(TypeError, match="pagers"):
            merged(wrong)


async def test_faults_under_a_stream_are_survived():
    # Five faults may all meet one call, or the probes for which the others wait.
    retry = Retry(6, base=0.001)
    async with (
        Emulator(imodels=6, changesets=40) as emulator,
        client(emulator, retry=retry) as itwin,
    ):
        emulator.faults.add("list_extended_data", Status(503, headers={}), times=5, after=3)
        emulator.faults.add("list_extended_data", Delay(0.01), times=20)
        owner = (await itwin.imodels.get_imodel(IMODEL)).itwin_id
        ids = [item.id async for item in itwin.imodels.list_imodels(owner)]
        source = (itwin.imodels.list_extended_data(id, page_size=7).ahead(2) for id in ids)
        async with merged(source) as items:
            got = [(item.imodel_id, item.changeset_index) async for item in items]
        assert sorted(got) == sorted((id, n) for id in ids for n in range(1, 41))


async def test_two_consumers_share_a_stream():
    async with PageServer(listing(20, 2)) as server, client(server) as itwin:
        async with merged(lists(itwin, 4), buffer=2) as items:

            async def take() -> list:
                return pairs([item async for item in items])

            one, other = await asyncio.gather(take(), take())
        assert sorted(one + other) == [(n, i) for n in range(4) for i in range(20)]


@pytest.mark.parametrize("source", [[1, 2], ["ab"], [[1]]])
async def test_a_source_of_what_is_no_list_is_refused(source):
    async with merged(source) as items:
        with pytest.raises(TypeError, match=r"merged\(\) takes lists, not "):
            await anext(items)
