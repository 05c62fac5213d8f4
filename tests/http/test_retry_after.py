"""Throttles: a pause for everybody, bounded by what the caller allows."""

import asyncio

import anyio
import pytest
from attempts import refused, short_waits
from support import (
    PACKAGE,
    Clock,
    RawServer,
    answer,
    session_at,
    until,
)

from itwin_async import (
    Limiter,
    RateLimitError,
    Retry,
    ServerError,
)
from itwin_async._http import admission

__all__ = ["short_waits"]  # fixtures


OK = answer(PACKAGE)


REPEATABLE = ("GET", "HEAD", "PUT", "DELETE")


NEVER = ("POST", "PATCH")


DEFAULT = admission.DEFAULT_RETRY_AFTER


async def test_a_throttle_pauses_everybody_at_once():
    answers = [refused(429, "Retry-After: 100")] * 4 + [OK]
    async with RawServer(*answers) as server:
        with Clock() as clock:
            async with session_at(server, limiter=Limiter(concurrency=4)) as itwin:
                calls = [asyncio.create_task(itwin.packages.get_package("P")) for _ in range(20)]
                await until(lambda: itwin.stats.throttled == 4)
                await until(lambda: itwin.limiter.waiting == 20)
                clock.forward(90)
                await asyncio.sleep(0.02)
                assert len(server.requests) == 4
                clock.forward(20)
                await asyncio.gather(*calls)
                assert len(server.requests) == 24
                assert itwin.stats.pauses == 1
                assert itwin.stats.retries == 0


@pytest.mark.parametrize("method", REPEATABLE + NEVER)
async def test_a_throttle_uses_up_no_attempt_of_any_method(method):
    answers = [refused(429)] * 5 + [answer()]
    retry = Retry(attempts=1, base=0.001)
    async with RawServer(*answers) as server, session_at(server, retry=retry) as itwin:
        await itwin.request(method, "/x")
        assert len(server.requests) == 6


@pytest.mark.parametrize("asked", [86_400, 999_999_999_999])  # longer is no pause of the platform
async def test_a_pause_longer_than_allowed_is_an_error_at_once(asked):
    refusal = refused(429, f"Retry-After: {asked}")
    async with RawServer(refusal) as server, session_at(server) as itwin:
        with pytest.raises(RateLimitError) as caught:
            await itwin.packages.get_package("P")
        assert caught.value.status == 429
        assert caught.value.retry_after == pytest.approx(86_400, abs=10)


async def test_a_call_that_cannot_wait_for_the_pause_is_rejected_unsent():
    limiter = Limiter()
    async with RawServer(refused(429, "Retry-After: 60")) as server:
        patient = session_at(server, limiter=limiter)
        hasty = session_at(server, limiter=limiter, retry=Retry(max_retry_after=5))
        async with patient, hasty:
            waiting = asyncio.create_task(patient.packages.get_package("P"))
            await until(lambda: limiter.waiting)
            with pytest.raises(RateLimitError) as caught:
                await hasty.packages.get_package("P")
            assert 50 < caught.value.retry_after < 70
            assert len(server.requests) == 1
            waiting.cancel()


async def test_a_throttle_without_a_time_is_no_hot_loop(monkeypatch):
    monkeypatch.setattr("itwin_async._http.admission.DEFAULT_RETRY_AFTER", DEFAULT)
    retry = Retry(base=0, max_throttled=DEFAULT / 2)
    async with RawServer(refused(429)) as server, session_at(server, retry=retry) as itwin:
        with pytest.raises(RateLimitError):
            await itwin.packages.get_package("P")
        assert len(server.requests) == 1


async def test_a_throttle_without_end_is_bounded_by_the_time_it_took():
    retry = Retry(attempts=1, base=0.03, max_throttled=0.2)
    async with RawServer(refused(429)) as server, session_at(server, retry=retry) as itwin:
        with pytest.raises(RateLimitError, match=r"waited 0\.[0-9] s"):
            await itwin.packages.get_package("P")
        assert len(server.requests) >= 3


@pytest.mark.parametrize("value", ["soon", "-5", "1.5", "٣", "9" * 400, "", "Mon, 99 Foo"])
async def test_rubbish_in_retry_after_is_a_backoff(value):
    retry = Retry(base=0.001)
    header = f"Retry-After: {value}".encode().decode("latin-1")
    async with (
        RawServer(refused(429, header), OK) as server,
        session_at(server, retry=retry) as itwin,
    ):
        await itwin.packages.get_package("P")
        assert itwin.stats.throttled == 1


async def test_a_date_in_retry_after_is_judged_by_the_servers_clock():
    headers = ("Date: Wed, 21 Oct 2015 07:28:00 GMT", "Retry-After: Wed, 21 Oct 2015 07:28:40 GMT")
    async with (
        RawServer(refused(429, *headers)) as server,
        session_at(server, retry=Retry(max_retry_after=39)) as itwin,
    ):
        with pytest.raises(RateLimitError) as caught:
            await itwin.packages.get_package("P")
        assert caught.value.retry_after == pytest.approx(40, abs=5)


async def test_a_503_with_retry_after_waits_by_itself():
    async with RawServer(refused(503, "Retry-After: 100"), OK) as server:
        with Clock() as clock:
            async with session_at(server) as itwin:
                waiting = asyncio.create_task(itwin.packages.get_package("P"))
                await until(lambda: itwin.stats.retries)
                await itwin.packages.get_package("P")
                clock.forward(90)
                await asyncio.sleep(0.01)
                assert not waiting.done()
                clock.forward(10)
                await waiting
                assert itwin.stats.pauses == 0


async def test_a_503_that_wants_more_time_than_allowed_is_final():
    async with RawServer(refused(503, "Retry-After: 121")) as server, session_at(server) as itwin:
        with pytest.raises(ServerError) as caught:
            await itwin.packages.get_package("P")
        assert caught.value.retry_after == 121
        assert len(server.requests) == 1


@pytest.mark.parametrize(("status", "error"), [(429, RateLimitError), (503, ServerError)])
async def test_a_wait_beyond_the_callers_deadline_fails_at_once(status, error):
    async with RawServer(refused(status, "Retry-After: 60")) as server:
        async with session_at(server) as itwin:
            with anyio.fail_after(30):
                with pytest.raises(error):
                    await itwin.packages.get_package("P")
                assert anyio.current_effective_deadline() - anyio.current_time() > 20
        assert len(server.requests) == 1
