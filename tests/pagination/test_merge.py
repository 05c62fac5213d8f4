"""Many lists as one stream: bounded, in the order of arrival, and gone with its block."""

import asyncio
import gc

import anyio
import pytest
from raw_pages import IMODEL, PageServer, client, entries, listing, page, settled
from support import cancelled_at_each_await, until

from itwin_async import Limiter, NotFoundError, Retry, ServerError, merged
from itwin_async.emulator import Delay, Emulator, Status


def lists(itwin, count: int, **options) -> list:
    """Lists of as many iModels, named 0, 1, 2 …"""
    return [itwin.imodels.list_extended_data(f"{n}", **options) for n in range(count)]


def name_of(call) -> int:
    return int(call.target.split("/")[2])


def pairs(items) -> list[tuple[int, int]]:
    return [(int(item.imodel_id), item.changeset_index) for item in items]


async def at_rest(server) -> int:
    """How many requests there are once no more come."""
    before = -1
    while before != len(server.calls):
        before = len(server.calls)
        await asyncio.sleep(0.02)
    return before


def own_tasks() -> list[asyncio.Task]:
    return [task for task in asyncio.all_tasks() if "itwin_async" in task.get_name()]


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
        pages = [each async for each in pager.pages()]
        finished = pager.resume(pages[-1].cursor)  # asks for nothing
        source = (pager if n % 50 == 0 else finished for n in range(5_000))
        async with merged(source, workers=50) as items:
            assert len([item async for item in items]) == 200
        assert len(server.calls) == 101


async def test_lists_with_read_ahead_may_be_merged():
    async with PageServer(listing(30, 3)) as server, client(server) as itwin:
        async with merged([each.ahead(8) for each in lists(itwin, 5)]) as items:
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


# Errors


def failing(names: set[int], status: int = 404, after: int = 0):
    """Lists of nine in threes; some of them fail from a page on."""
    plain = listing(9, 3)

    async def answer(call) -> None:
        if name_of(call) in names and call.skip >= after:
            await call.json({"error": {"code": "Bad", "message": "No."}}, status)
        else:
            await plain(call)

    return answer


async def test_a_failing_list_ends_the_stream_with_its_own_error():
    async with PageServer(failing({3})) as server, client(server) as itwin:
        with pytest.raises(NotFoundError, match="404 Bad"):
            async with merged(lists(itwin, 8), workers=2) as items:
                async for _ in items:
                    pass
        assert own_tasks() == []
        assert len({name_of(call) for call in server.calls}) < 8


async def test_the_error_comes_after_what_had_arrived():
    async with PageServer(failing({0}, after=6)) as server, client(server) as itwin:
        seen = []
        async with merged(lists(itwin, 1), buffer=100) as items:
            while own_tasks():
                await asyncio.sleep(0)  # so that nothing happens between its end and our look
            with pytest.raises(NotFoundError):
                async for item in items:
                    seen.append(item.changeset_index)
            assert seen == list(range(6))
            with pytest.raises(NotFoundError):
                await anext(items)


async def test_an_error_ends_workers_that_wait_for_room():
    async with PageServer(failing({3})) as server, client(server) as itwin, asyncio.timeout(10):
        seen = 0
        with pytest.raises(NotFoundError):
            async with merged(lists(itwin, 4), workers=4, buffer=1) as items:
                await at_rest(server)
                async for _ in items:
                    seen += 1
        assert seen >= 1


async def test_an_error_ends_the_other_lists_at_once():
    async def answer(call) -> None:
        if name_of(call) == 3:
            await call.json({}, 404)
        else:
            await call.gone()

    async with (
        PageServer(answer) as server,
        client(server) as itwin,
        merged(lists(itwin, 4)) as items,
    ):
        with pytest.raises(NotFoundError):
            await anext(items)
        await until(lambda: server.in_flight == 0)
        assert own_tasks() == []


async def test_on_error_leaves_the_failing_lists_out():
    told = []
    async with (
        PageServer(failing({1, 4}, 500, after=3)) as server,
        client(server, retry=Retry(attempts=1)) as itwin,
    ):
        pagers = lists(itwin, 6)

        def tell(pager, error) -> None:
            told.append((pagers.index(pager), error))

        async with merged(pagers, on_error=tell) as items:
            got = pairs([item async for item in items])
    assert sorted(name for name, _ in told) == [1, 4]
    assert {type(error) for _, error in told} == {ServerError}
    for name in range(6):
        expected = list(range(3 if name in {1, 4} else 9))
        assert [index for of, index in got if of == name] == expected


async def test_an_error_of_on_error_ends_the_stream():
    def worse(pager, error):
        raise LookupError("worse") from error

    async with PageServer(failing({1})) as server, client(server) as itwin:
        with pytest.raises(LookupError, match="worse"):
            async with merged(lists(itwin, 3), on_error=worse) as items:
                async for _ in items:
                    pass


async def test_an_error_of_the_source_ends_the_stream():
    async with PageServer(listing(2, 2)) as server, client(server) as itwin:

        def source():
            yield from lists(itwin, 2)
            raise LookupError("no more names")

        async def source_async():
            for pager in source():
                yield pager

        for given in (source(), source_async()):
            with pytest.raises(LookupError, match="no more names"):
                async with merged(given, workers=3) as items:
                    async for _ in items:
                        pass
            assert own_tasks() == []


async def test_a_session_closed_under_a_stream_is_an_error_not_an_end():
    plain, gate = listing(9, 3), asyncio.Event()

    async def answer(call) -> None:
        if call.skip:
            await call.until(gate)
        await plain(call)

    async with (
        PageServer(answer) as server,
        client(server) as itwin,
        merged(lists(itwin, 3)) as items,
    ):
        for _ in range(9):
            await anext(items)
        await until(lambda: server.in_flight == 3)
        await itwin.aclose()
        with pytest.raises(RuntimeError, match="closed"):
            await anext(items)


# SessionLifecycle


async def everything_gone(server, itwin) -> None:
    gc.collect()
    assert own_tasks() == []
    await settled(itwin.limiter)
    await until(lambda: server.in_flight == 0)


@pytest.mark.parametrize("way", ["break", "error", "cancel", "timeout"])
@pytest.mark.parametrize("size", [0, 100_000])
async def test_nothing_is_left_after_an_early_end(way, size):
    async with PageServer(listing(30, 3, size)) as server, client(server) as itwin:

        async def consume() -> None:
            async with merged([each.ahead(2) for each in lists(itwin, 20)], buffer=4) as items:
                async for _ in items:
                    if way == "break":
                        return
                    if way == "error":
                        raise LookupError("of the consumer")
                    await asyncio.sleep(30)

        if way == "error":
            with pytest.raises(LookupError):
                await consume()
        elif way == "timeout":
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await consume()
        elif way == "cancel":
            task = asyncio.create_task(consume())
            await until(lambda: server.calls)
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()
        else:
            await consume()
        await everything_gone(server, itwin)


async def test_nothing_is_left_whenever_it_is_cancelled():
    async with PageServer(listing(9, 3)) as server, client(server) as itwin:
        for instant in range(0, 80, 7):
            seen = []

            async def consume(seen=seen) -> None:
                async with merged(lists(itwin, 6), workers=3, buffer=2) as items:
                    async for item in items:
                        seen.append(item)
                        await asyncio.sleep(0)

            task = asyncio.create_task(consume())
            for _ in range(instant):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled() or len(seen) == 54
            assert own_tasks() == []
            await settled(itwin.limiter)


class Slowly:
    """Async generators that await when they are ended early; counts the begun and the ended."""

    def __init__(self) -> None:
        self.begun = self.closed = 0

    async def items(self, numbers, then=None):
        self.begun += 1
        try:
            for number in numbers:
                await asyncio.sleep(0)
                yield number if then is None else then(number)
        except (GeneratorExit, asyncio.CancelledError):
            for _ in range(3):
                await asyncio.sleep(0)
            self.closed += 1
            raise
        self.closed += 1


@pytest.mark.parametrize("when", ["waiting", "ready"])
@pytest.mark.parametrize("buffer", [1, 100])
async def test_what_is_merged_is_closed_in_full_at_whatever_await_it_is_cancelled(
    cancel_kind, when, buffer
):
    slowly = Slowly()

    async def consume() -> list[int]:
        source = slowly.items(range(3), lambda _: slowly.items(range(3)))
        async with merged(source, workers=2, buffer=buffer) as items:
            got = []
            async for item in items:
                got.append(item)
                await asyncio.sleep(0)
            return got

    async def check(number) -> None:
        assert own_tasks() == []
        assert slowly.begun == slowly.closed, number

    awaits, got = await cancelled_at_each_await(cancel_kind, consume, check, when=when)
    assert sorted(got) == sorted([*range(3)] * 3)
    assert awaits > 10


async def test_a_failing_list_does_not_disturb_the_closing_of_the_others():
    slowly = Slowly()

    async def fails():
        await asyncio.sleep(0)
        raise LookupError
        yield

    with pytest.raises(LookupError):
        async with merged([slowly.items(range(9)), fails()], buffer=1) as items:
            async for _ in items:
                await asyncio.sleep(0)  # in which the other list begins to close
                await asyncio.sleep(0)
    assert slowly.begun == slowly.closed == 1


async def test_a_list_that_never_closes_is_cancelled_again_after_a_while(monkeypatch):
    monkeypatch.setattr("itwin_async._pagination.merge._SHIELDED", 0.01)
    ended = asyncio.Event()

    async def stubborn():
        try:
            yield 0
            await asyncio.Event().wait()
        finally:
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

    with anyio.CancelScope() as scope:
        async with merged([stubborn()]) as items:
            await anext(items)
            scope.cancel()
            await anext(items)
    assert scope.cancelled_caught
    assert ended.is_set()


async def test_a_worker_that_is_cancelled_before_it_began_ends_the_stream():
    async with merged([Slowly().items(range(3))], workers=1) as items:
        own_tasks()[0].cancel()
        with pytest.raises(RuntimeError, match="cancelled"):
            async with asyncio.timeout(10):
                await anext(items)


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


async def test_a_page_of_bad_json_is_the_streams_error():
    async with (
        PageServer(lambda call: call.body(page(entries(0, 2))[:-9])) as server,
        client(server) as itwin,
    ):
        with pytest.raises(Exception, match="does not decode"):
            async with merged(lists(itwin, 1)) as items:
                await anext(items)
