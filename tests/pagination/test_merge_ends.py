"""A merged stream ends with its first error or its block, and leaves nothing behind."""

import asyncio
import gc

import anyio
import pytest
from merging import lists, name_of, own_tasks, pairs
from raw_pages import PageServer, at_rest, client, entries, listing, page, settled
from support import cancelled_at_each_await, until

from itwin_async import NotFoundError, Retry, ServerError, merged

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
    reported = []
    async with (
        PageServer(failing({1, 4}, 500, after=3)) as server,
        client(server, retry=Retry(attempts=1)) as itwin,
    ):
        pagers = lists(itwin, 6)

        def report(pager, error) -> None:
            reported.append((pagers.index(pager), error))

        async with merged(pagers, on_error=report) as items:
            got = pairs([item async for item in items])
    assert sorted(name for name, _ in reported) == [1, 4]
    assert {type(error) for _, error in reported} == {ServerError}
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
            async with merged([item.ahead(2) for item in lists(itwin, 20)], buffer=4) as items:
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
    monkeypatch.setattr("itwin_async._pagination.merge._CLOSE_TIMEOUT", 0.01)
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


async def test_a_page_of_bad_json_is_the_streams_error():
    async with (
        PageServer(lambda call: call.body(page(entries(0, 2))[:-9])) as server,
        client(server) as itwin,
    ):
        with pytest.raises(Exception, match="does not decode"):
            async with merged(lists(itwin, 1)) as items:
                await anext(items)
