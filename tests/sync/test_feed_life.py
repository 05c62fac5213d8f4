"""A feed that is cancelled, closed, left, notified, and that looks again."""

import asyncio
import pickle

import pytest
from feeds import DATA, IMODELS, Key, imodels_of, keys, one_pass, platform, project, sent, there
from support import Clock, cancelled_at_each_await, until

from itwin_async.emulator import Status
from itwin_async.sync import ChangeFeed


@pytest.mark.parametrize("when", ["waiting", "ready"])
async def test_cancelled_at_each_await_it_loses_and_doubles_nothing(cancel_kind, when):
    async with platform(imodels=2, changesets=3) as (emulator, itwin):
        scope = await project(itwin)
        imodels = await imodels_of(itwin, scope)
        given: list[Key] = []
        feed: ChangeFeed = ChangeFeed(itwin, itwin_id=scope, every=None)

        async def read() -> list[Key]:
            nonlocal feed
            given.clear()
            feed = ChangeFeed(itwin, itwin_id=scope, every=None)
            async with feed:
                async for entry in feed:
                    given.append((entry.imodel_id, entry.changeset_index))
            return sorted(given)

        async def check(_: int) -> None:
            rest, _ = await one_pass(itwin, feed.checkpoint, itwin_id=scope)
            assert sorted(given + rest) == there(emulator, imodels)

        awaits, result = await cancelled_at_each_await(cancel_kind, read, check, when=when)
        assert result == there(emulator, imodels)
        assert awaits >= 4


async def test_a_cancelled_wait_for_an_entry_may_be_repeated():
    async with platform(imodels=3, changesets=4) as (emulator, itwin):
        scope = await project(itwin)
        imodels = await imodels_of(itwin, scope)
        given: list[Key] = []
        async with ChangeFeed(itwin, itwin_id=scope, every=None) as feed:
            for turns in range(200):
                waiting = asyncio.create_task(anext(feed, None))
                for _ in range(turns % 20):
                    await asyncio.sleep(0)
                waiting.cancel()
                try:
                    entry = await waiting
                except asyncio.CancelledError:
                    continue
                if entry is None:
                    break
                given.append((entry.imodel_id, entry.changeset_index))
            rest = await keys(feed)
        assert sorted(given + rest) == there(emulator, imodels)


async def test_restarted_at_each_entry_it_loses_and_doubles_nothing():
    async with platform(imodels=3, changesets=5) as (emulator, itwin):
        scope = await project(itwin)
        imodels = await imodels_of(itwin, scope)
        given, checkpoint = [], None
        while True:
            async with ChangeFeed(
                itwin, itwin_id=scope, every=None, checkpoint=checkpoint, look_back=2
            ) as feed:
                entry = await anext(feed, None)
                checkpoint = feed.checkpoint
            if entry is None:
                break
            given.append((entry.imodel_id, entry.changeset_index))
        assert sorted(given) == there(emulator, imodels)


async def test_leaving_early_leaves_nothing_behind(emulator, itwin):
    scope = await project(itwin)
    async with ChangeFeed(itwin, itwin_id=scope) as feed:
        async for _ in feed:
            break
        before = feed.checkpoint
    assert feed.checkpoint == before
    with pytest.raises(StopAsyncIteration):
        await anext(feed)


async def test_closing_ends_a_feed_that_another_task_waits_for():
    async with platform(imodels=3) as (emulator, itwin):
        scope = await project(itwin)
        async with ChangeFeed(itwin, itwin_id=scope) as feed:
            task = asyncio.create_task(keys(feed))
            await until(lambda: feed._due and feed._due > asyncio.get_running_loop().time())
            await feed.aclose()
            assert await task == there(emulator, await imodels_of(itwin, scope))


async def test_closing_ends_a_feed_that_reads():
    async with platform(imodels=3, latency=0.01) as (emulator, itwin):
        scope = await project(itwin)
        async with ChangeFeed(itwin, itwin_id=scope) as feed:
            task = asyncio.create_task(keys(feed))
            await until(lambda: emulator.count(DATA) == 1)
            await feed.aclose()
            given = await task
        rest, _ = await one_pass(itwin, feed.checkpoint, itwin_id=scope)
        assert sorted(given + rest) == there(emulator, await imodels_of(itwin, scope))


async def test_closing_ends_a_feed_that_asks_what_moved():
    async with platform(imodels=3) as (emulator, itwin):
        scope = await project(itwin)
        emulator.latency = 0.05
        async with ChangeFeed(itwin, itwin_id=scope) as feed:
            task = asyncio.create_task(keys(feed))
            await until(lambda: emulator.count(IMODELS) == 1)
            await feed.aclose()
            assert await task == []
        assert emulator.count(DATA) == 0


async def test_what_a_feed_refuses(itwin):
    feed = ChangeFeed(itwin, itwin_id="a")
    with pytest.raises(RuntimeError, match="inside its 'async with' block"):
        await anext(feed)
    with pytest.raises(TypeError, match=r"store feed\.checkpoint"):
        pickle.dumps(feed)
    async with feed:
        waiting = asyncio.create_task(anext(feed))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="two tasks"):
            await anext(feed)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    with pytest.raises(RuntimeError, match="used once"):
        await feed.__aenter__()


# Looking again


async def asleep(feed: ChangeFeed) -> float:
    """Wait until the feed waits, and give the seconds until it looks again."""
    clock = asyncio.get_running_loop().time
    await until(lambda: feed._scans is None and feed._due is not None and feed._due > clock())
    assert feed._due is not None
    return feed._due - clock()


async def test_it_looks_every_so_many_seconds_and_more_seldom_while_nothing_happens():
    async with platform(imodels=3, changesets=3) as (emulator, itwin):
        scope = await project(itwin)
        first, *_ = await imodels_of(itwin, scope)
        given: list[Key] = []

        async def follow() -> None:
            async for entry in feed:
                given.append((entry.imodel_id, entry.changeset_index))

        with Clock() as clock:
            async with ChangeFeed(itwin, itwin_id=scope, every=60) as feed:
                task = asyncio.create_task(follow())
                for growth in (1, 1.5, 2.25, 3.375, 4, 4):
                    seconds = await asleep(feed)
                    assert 60 * growth * 0.9 - 0.5 < seconds <= min(60 * growth * 1.1, 240)
                    sent(emulator)
                    clock.forward(seconds + 0.01)
                    await until(lambda: emulator.count(IMODELS) == 1)
                await asleep(feed)
                index = emulator.push_changeset(first, {"n": 1})
                clock.forward(300)
                await until(lambda: (first, index) in given)
                assert await asleep(feed) < 70  # at the usual pace, until the push has settled
                task.cancel()
                await asyncio.wait([task])


async def test_a_notified_imodel_is_looked_at_now_for_one_request():
    async with platform(imodels=3, changesets=30) as (emulator, itwin):
        scope = await project(itwin)
        first, *_ = await imodels_of(itwin, scope)
        async with ChangeFeed(itwin, itwin_id=scope, every=3_600) as feed:
            task = asyncio.create_task(keys(feed))
            await asleep(feed)
            sent(emulator)
            index = emulator.push_changeset(first, {"n": 1})
            feed.notify(first.upper())
            await until(lambda: emulator.count(DATA) == 1)
            await asleep(feed)
            assert sent(emulator) == {DATA: 1}
            await feed.aclose()
            assert (first, index) in await task
        # What it was told does not count as its last push: the next pass looks at it as well.
        sent(emulator)
        assert (await one_pass(itwin, feed.checkpoint, itwin_id=scope))[0] == []
        assert sent(emulator) == {IMODELS: 1, DATA: 1}


async def test_a_notified_imodel_without_anything_new_is_looked_at_again_soon():
    """An application pushes first, and stores its data a moment later."""
    async with platform(imodels=3) as (emulator, itwin):
        scope = await project(itwin)
        first, *_ = await imodels_of(itwin, scope)
        with Clock() as clock:
            async with ChangeFeed(itwin, itwin_id=scope, every=3_600) as feed:
                task = asyncio.create_task(keys(feed))
                await asleep(feed)
                sent(emulator)
                index = emulator.push_changeset(first)
                feed.notify(first)
                for looks, seconds in enumerate((2, 8, 30), start=1):
                    await until(lambda count=looks: emulator.count(DATA) == count)
                    await until(lambda: feed._notified.next)
                    if looks == 3:
                        emulator.store_extended_data(first, index, {"n": 1})
                    clock.forward(seconds + 0.01)
                await until(lambda: emulator.count(DATA) == 4)
                await asleep(feed)
                assert feed._notified.next is None
                assert sent(emulator) == {DATA: 4}
                await feed.aclose()
                assert (first, index) in await task


async def test_a_notification_about_an_unknown_imodel_makes_it_look_at_the_itwin():
    async with platform(imodels=3) as (emulator, itwin):
        scope = await project(itwin)
        async with ChangeFeed(itwin, itwin_id=scope, every=3_600) as feed:
            task = asyncio.create_task(keys(feed))
            await asleep(feed)
            added = emulator.add_imodel(scope)
            index = emulator.push_changeset(added, {"n": 1})
            sent(emulator)
            feed.notify(added)
            await until(lambda: emulator.count(DATA) == 1)
            await asleep(feed)
            feed.notify("of-another-itwin")
            await until(lambda: emulator.count(IMODELS) == 2)
            await asleep(feed)
            assert emulator.count("get_imodel") == 0
            await feed.aclose()
            assert (added, index) in await task


async def test_a_cancelled_look_at_the_itwin_is_not_forgotten():
    async with platform(imodels=3) as (emulator, itwin):
        scope = await project(itwin)
        async with ChangeFeed(itwin, itwin_id=scope, every=3_600) as feed:
            task = asyncio.create_task(keys(feed))
            await asleep(feed)
            added = emulator.add_imodel(scope)
            index = emulator.push_changeset(added, {"n": 1})
            emulator.latency = 0.05
            feed.notify(added)
            await until(lambda: emulator.count(IMODELS) == 2)
            task.cancel()
            await asyncio.wait([task])
            emulator.latency = 0
            entry = await anext(feed)
            assert (entry.imodel_id, entry.changeset_index) == (added, index)


async def test_notifications_while_it_reads_lose_and_double_nothing():
    # More iModels than are read at a time, so that some looks begin after a notification.
    async with platform(imodels=20, changesets=40) as (emulator, itwin):
        scope = await project(itwin)
        imodels = await imodels_of(itwin, scope)
        given: list[Key] = []
        async with ChangeFeed(itwin, itwin_id=scope, every=None) as feed:
            async for entry in feed:
                given.append((entry.imodel_id, entry.changeset_index))
                if len(given) % 7 == 0:
                    imodel = entry.imodel_id if len(given) % 2 else imodels[len(given) % 20]
                    if len(given) < 400:
                        emulator.push_changeset(imodel, {"n": len(given)})
                    feed.notify(imodel)
        assert sorted(given) == there(emulator, imodels)


async def test_a_notification_of_ids_that_are_not_followed_does_nothing():
    async with platform(imodels=3) as (emulator, itwin):
        first, second, *_ = await imodels_of(itwin, await project(itwin))
        async with ChangeFeed(itwin, imodel_ids=first, every=None) as feed:
            feed.notify(second)
            assert await keys(feed) == there(emulator, [first])
            assert emulator.count(DATA) == 1


@pytest.mark.parametrize(("value", "error"), [(None, TypeError), (5, TypeError), ("", ValueError)])
async def test_only_an_id_can_be_notified(itwin, value, error):
    with pytest.raises(error, match="imodel_id must"):
        ChangeFeed(itwin, itwin_id="a").notify(value)


async def test_an_error_between_two_looks_is_raised_and_the_feed_goes_on():
    async with platform(imodels=3) as (emulator, itwin):
        scope = await project(itwin)
        first, *_ = await imodels_of(itwin, scope)
        with Clock() as clock:
            async with ChangeFeed(itwin, itwin_id=scope, every=60) as feed:
                task = asyncio.create_task(keys(feed))
                seconds = await asleep(feed)
                emulator.faults.add(IMODELS, Status(403))
                clock.forward(seconds + 0.01)
                with pytest.raises(Exception, match="403"):
                    await task
                emulator.push_changeset(first, {"n": 1})
                assert (await anext(feed)).imodel_id == first


async def test_a_notified_imodel_whose_scan_fails_is_scanned_when_the_feed_goes_on():
    async with platform(imodels=3) as (emulator, itwin):
        scope = await project(itwin)
        first, *_ = await imodels_of(itwin, scope)
        async with ChangeFeed(itwin, itwin_id=scope, every=3_600) as feed:
            task = asyncio.create_task(keys(feed))
            await asleep(feed)
            index = emulator.push_changeset(first, {"n": 1})
            emulator.faults.add(DATA, Status(422))
            feed.notify(first)
            with pytest.raises(Exception, match="422"):
                await task
            async with asyncio.timeout(5):
                entry = await anext(feed)
            assert (entry.imodel_id, entry.changeset_index) == (first, index)


async def test_an_added_imodel_whose_scan_fails_is_scanned_when_the_feed_goes_on():
    async with platform(imodels=3) as (emulator, itwin):
        scope = await project(itwin)
        async with ChangeFeed(itwin, itwin_id=scope, every=3_600) as feed:
            task = asyncio.create_task(keys(feed))
            await asleep(feed)
            added = emulator.add_imodel(scope)
            index = emulator.push_changeset(added, {"n": 1})
            emulator.faults.add(DATA, Status(422))
            feed.notify(added)
            with pytest.raises(Exception, match="422"):
                await task
            async with asyncio.timeout(5):
                entry = await anext(feed)
            assert (entry.imodel_id, entry.changeset_index) == (added, index)
