"""An outage is one event for an origin: calls wait together, one probes, and all go on after it."""

import asyncio
import logging
from contextlib import suppress

import anyio
import pytest
from origins import FOREVER, PATIENT, Origin, break_down, breaker, call, refused, waiting
from raw_pages import IMODEL, PageServer, listing
from support import (
    Clock,
    session_at,
    until,
)

from itwin_async import (
    ClientCredentials,
    ITwinError,
    ITwinSession,
    Limiter,
    NotFoundError,
    OutageEnded,
    OutageStarted,
    RateLimitError,
    Retry,
    ServerError,
    TransportError,
)
from itwin_async._core.urls import split
from itwin_async._http.external import SignedRequest
from itwin_async._http.outages import OutageState
from itwin_async.emulator import Reset
from itwin_async.retries import RetryState


def test_an_outage_is_two_targets_without_a_success_between():
    state = OutageState()
    assert not state.fault("/a", 1.0)
    assert not state.fault("/a", 2.0)  # one bad resource
    assert state.response() is None
    assert not state.fault("/b", 3.0)
    assert state.fault("/a", 4.0)
    assert not state.fault("/c", 5.0)  # it goes on
    assert state.response() == 4.0
    assert state.since is None
    assert not state.fault("/b", 6.0)


@pytest.mark.slow
@pytest.mark.parametrize("down", ["reset", refused(503)], ids=["reset", "503"])
async def test_two_hundred_calls_outlive_an_outage_that_sees_probes_and_no_storm(down):
    events = []
    async with (
        Origin() as origin,
        session_at(
            origin,
            retry=Retry(base=0.02, cap=0.05, max_outage=FOREVER),
            limiter=Limiter(16),
            on_event=events.append,
        ) as itwin,
    ):
        origin.down = down
        calls = [asyncio.ensure_future(call(itwin, number)) for number in range(200)]
        await until(lambda: itwin.stats.probes >= 4)
        origin.down = None
        assert await asyncio.gather(*calls) == [{}] * 200
        # What was under way when it began, and a probe at a time: not 200 times anything.
        assert len(origin.while_down) <= 16 + itwin.stats.probes + 1
        stats = itwin.stats
    begun, ended = (event for event in events if isinstance(event, OutageStarted | OutageEnded))
    assert begun.origin == ended.origin == origin.url
    assert ended.failed_probes == stats.probes
    assert (stats.outages, ended.seconds > 0) == (1, True)


@pytest.mark.slow
async def test_two_hundred_lists_of_the_emulator_outlive_its_faults_whole(emulator):
    retry = Retry(12, base=0.005, cap=0.02)
    async with ITwinSession(emulator.credentials, base_url=emulator.url, retry=retry) as itwin:
        owner = await anext(aiter(itwin.itwins.list_itwins()))
        imodels = [imodel async for imodel in itwin.imodels.list_imodels(owner.id)]
        emulator.faults.add("list_changesets", Reset(), times=24)
        lists = [
            collected(itwin.imodels.list_changesets(imodels[number % len(imodels)].id))
            for number in range(200)
        ]
        sizes = await asyncio.gather(*lists)
        assert set(sizes) == {25}
        assert 1 <= itwin.stats.outages <= 24 - 16
        assert emulator.count("list_changesets") == 200 + 24


async def collected(pager) -> int:
    return len([item async for item in pager])


async def test_an_outage_beyond_the_attempts_ends_each_call_with_its_own_error():
    retry = Retry(3, base=0.001, cap=0.002)
    async with Origin() as origin, session_at(origin, retry=retry) as itwin:
        origin.down = "reset"
        calls = [asyncio.ensure_future(call(itwin, number)) for number in range(100)]
        errors = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(error) for error in errors} == {TransportError}
        assert len({id(error) for error in errors}) == 100
        assert {error.operation for error in errors} == {
            f"GET /things/{number}" for number in range(100)
        }
        assert not any(error.outcome_unknown for error in errors)
        assert sum("an outage for" in str(error) for error in errors) > 80
        assert len(origin.while_down) < 16 + 3 * 10


async def test_max_outage_is_counted_in_seconds_and_not_in_attempts():
    retry = Retry(1, base=0.001, cap=0.002, max_outage=FOREVER)
    async with Origin() as origin, session_at(origin, retry=retry) as itwin:
        with Clock() as clock:
            calls = await break_down(itwin, origin, calls=20)
            await until(lambda: itwin.stats.probes >= 5)
            assert not any(task.done() for task in calls)
            clock.forward(FOREVER)
            errors = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(error) for error in errors} == {TransportError}


async def test_a_single_list_outlives_a_reset_server_with_max_outage():
    retry = Retry(1, base=0.001, cap=0.002, max_outage=FOREVER)
    async with Origin() as origin, session_at(origin, retry=retry) as itwin:
        origin.down = "reset"
        waiter = asyncio.ensure_future(call(itwin, 1))
        await until(lambda: len(origin.while_down) >= 5)
        origin.down = None
        assert await waiter == {}
        assert itwin.stats.outages == 0


async def test_the_last_probe_of_max_outage_comes_at_its_end_and_not_before():
    retry = Retry(1, base=FOREVER, cap=FOREVER, max_outage=600.0)
    async with Origin() as origin, session_at(origin, retry=retry) as itwin:
        with Clock() as clock:
            calls = await break_down(itwin, origin, calls=3)
            await until(lambda: waiting(itwin) == 2)
            assert itwin.stats.probes == 0
            assert 400.0 < breaker(itwin).until_probe() <= 600.0
            clock.forward(600.0)
            errors = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(error) for error in errors} == {TransportError}
        assert 1 <= itwin.stats.probes <= 3


async def test_one_bad_resource_pauses_nobody():
    retry = Retry(4, base=0.001, cap=0.002)
    async with Origin() as origin, session_at(origin, retry=retry) as itwin:
        origin.bad["/things/7"] = refused(500)
        results = await asyncio.gather(*(call(itwin, 7) for _ in range(5)), return_exceptions=True)
        assert {type(result) for result in results} == {ServerError}
        assert await call(itwin, 1) == {}
        assert (itwin.stats.outages, breaker(itwin).clear) == (0, True)


async def test_a_throttle_is_no_outage():
    retry = Retry(4, max_retry_after=0.0)
    async with Origin() as origin, session_at(origin, retry=retry) as itwin:
        origin.down = refused(429, "Retry-After: 60")
        await asyncio.gather(*(call(itwin, n) for n in range(3)), return_exceptions=True)
        assert itwin.stats.outages == 0


async def test_an_answer_below_500_ends_an_outage_whatever_it_says():
    async with Origin() as origin, session_at(origin, retry=PATIENT) as itwin:
        calls = await break_down(itwin, origin)
        origin.down = refused(404)
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(result) for result in results} == {NotFoundError}
        assert breaker(itwin).clear


async def test_a_new_call_waits_as_well_and_a_good_resource_ends_the_pause_of_two_bad_ones():
    async with Origin() as origin, session_at(origin, retry=PATIENT) as itwin:
        origin.bad |= {"/things/0": refused(500), "/things/1": refused(502)}
        bad = [asyncio.ensure_future(call(itwin, number)) for number in (0, 1)]
        await until(lambda: itwin.stats.outages)
        assert await call(itwin, 2) == {}
        for task in bad:
            task.cancel()


async def test_a_retry_after_beyond_what_is_allowed_ends_every_waiting_call():
    retry = Retry(9, base=0.001, cap=0.002, max_retry_after=30.0, max_outage=3_600.0)
    async with Origin() as origin, session_at(origin, retry=retry) as itwin:
        calls = await break_down(itwin, origin, calls=10)
        origin.down = refused(503, "Retry-After: 31")
        errors = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(error) for error in errors} == {ServerError}
        sent = len(origin.requests)
        with pytest.raises(ServerError):
            await call(itwin, 99)
        assert len(origin.requests) == sent


async def test_a_late_answer_that_asks_for_too_long_ends_the_waiting_calls_too():
    retry = Retry(9, base=FOREVER, cap=FOREVER, max_retry_after=30.0)
    async with Origin() as origin, session_at(origin, retry=retry) as itwin:
        calls = await break_down(itwin, origin, calls=3)
        await until(lambda: waiting(itwin) == 2)
        late = ServerError("maintenance")
        late.status, late.retry_after, late.path = 503, 31.0, "/c"
        breaker(itwin).on_failure(late, "/c", RetryState(retry, "GET"), None)
        await until(lambda: sum(task.done() for task in calls) == 2)
        errors = [task.exception() for task in calls if task.done()]
        assert [error.retry_after for error in errors] == [31.0, 31.0]
        assert {error.path for error in errors} == {None}
        for task in calls:
            task.cancel()


async def test_a_retry_after_of_an_outage_is_kept():
    retry = Retry(9, base=0.001, cap=0.002, max_retry_after=600.0)
    async with Origin() as origin, session_at(origin, retry=retry) as itwin:
        with Clock() as clock:
            calls = await break_down(itwin, origin, refused(503, "Retry-After: 600"))
            assert 400.0 < breaker(itwin).until_probe() <= 600.0
            origin.down = None
            clock.forward(600.0)
            assert await asyncio.gather(*calls) == [{}] * 2


async def test_nothing_is_asked_for_ahead_during_an_outage():
    retry = Retry(9, base=0.001, cap=0.002)
    async with PageServer(listing(400, 100)) as origin, session_at(origin, retry=retry) as itwin:
        pages = itwin.imodels.list_extended_data(IMODEL).ahead(4).pages()
        await anext(pages)
        await until(lambda: len(origin.calls) == 2 and origin.in_flight == 0)
        for target in ("/a", "/b"):
            breaker(itwin).on_failure(TransportError(), target, RetryState(retry, "GET"), None)
        assert await anext(pages)  # it was there already
        await asyncio.sleep(0)
        assert len(origin.calls) == 2
        assert [len(page) async for page in pages] == [100, 100]


async def test_closing_the_session_ends_the_waiting_calls():
    retry = Retry(9, base=FOREVER, cap=FOREVER)
    async with Origin() as origin:
        itwin = session_at(origin, retry=retry)
        calls = await break_down(itwin, origin, calls=5)
        await itwin.aclose()
        errors = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(error) for error in errors} == {RuntimeError}


@pytest.mark.slow
async def test_the_log_has_the_beginning_and_the_end(caplog):
    caplog.set_level(logging.INFO)
    async with Origin() as origin, session_at(origin, retry=PATIENT) as itwin:
        calls = await break_down(itwin, origin, calls=10)
        origin.down = None
        await asyncio.gather(*calls)
    lines = [
        (record.levelname, record.message)
        for record in caplog.records
        if origin.url in record.message
    ]
    assert [level for level, _ in lines] == ["WARNING", "INFO"]
    assert "out of service (reset)" in lines[0][1]
    assert "answers again after" in lines[1][1]


@pytest.mark.slow
async def test_signed_urls_have_outages_of_their_own_host():
    events = []

    async def whole(body) -> bytes:
        text = b""
        while piece := await body.pull():
            text += piece
        return text

    async with (
        Origin() as origin,
        Origin() as storage,
        session_at(origin, retry=PATIENT, on_event=events.append) as itwin,
    ):
        storage.down = "reset"
        fetches = [
            asyncio.ensure_future(
                itwin._executor.external.fetch(
                    SignedRequest(*split(f"{storage.url}/f{n}?sig=hidden"), dict),
                    whole,
                    RetryState(PATIENT, "GET"),
                )
            )
            for n in range(30)
        ]
        await until(lambda: itwin.stats.probes >= 3)
        assert await call(itwin, 1) == {}  # the platform is not concerned
        storage.down = None
        assert await asyncio.gather(*fetches) == [b"{}"] * 30
        assert len(storage.while_down) <= 16 + itwin.stats.probes + 1
    begun = [event for event in events if isinstance(event, OutageStarted)]
    assert [event.origin for event in begun] == [storage.url]
    assert "hidden" not in repr(events)


async def test_a_sign_in_host_that_is_down_as_well_is_waited_for_within_max_outage():
    """One list and one token endpoint: no second target, but nobody can connect either."""
    retry = Retry(1, base=0.001, cap=0.002, max_outage=FOREVER)
    async with Origin() as origin:
        origin.down = "reset"
        credentials = ClientCredentials("id", "secret-1", token_url=f"{origin.url}/token")
        async with ITwinSession(credentials, base_url=origin.url, retry=retry) as itwin:
            waiter = asyncio.ensure_future(call(itwin, 1))
            await until(lambda: len(origin.while_down) >= 4)
            waiter.cancel()
            with suppress(asyncio.CancelledError, ITwinError):
                await waiter


async def test_a_429_of_another_host_pauses_all_requests_to_that_host_and_no_others():
    retry = Retry(9, base=0.001)
    async with Origin() as origin, Origin() as storage, session_at(origin, retry=retry) as itwin:

        async def whole(body) -> bytes:
            return await body.pull()

        async def fetch(number: int) -> bytes:
            request = SignedRequest(*split(f"{storage.url}/f{number}?sig=hidden"), dict)
            return await itwin._executor.external.fetch(request, whole, RetryState(retry, "GET"))

        with Clock() as clock:
            storage.down = refused(429, "Retry-After: 60")
            first = asyncio.ensure_future(fetch(0))
            await until(lambda: itwin.stats.throttled)
            await until(lambda: itwin.limiter.in_use == 0)
            others = [asyncio.ensure_future(fetch(number)) for number in range(1, 10)]
            assert await call(itwin, 1) == {}  # the platform's are not concerned
            assert len(storage.requests) == 1
            with (
                anyio.fail_after(30),
                pytest.raises(RateLimitError, match="asked for a pause") as caught,
            ):
                await fetch(99)
            assert caught.value.operation == "GET (signed URL)"
            storage.down = None
            clock.forward(67.0)
            assert await asyncio.gather(first, *others) == [b"{}"] * 10
            assert (itwin.stats.throttled, itwin.stats.pauses) == (1, 0)
