"""Pauses of other hosts, seen in virtual time: how long a 429 pauses the requests to its host."""

import pytest
from virtual_time import now, run

from itwin_async import RateLimitError, Retry
from itwin_async._core.urls import split
from itwin_async._http import host_pauses
from itwin_async._http.host_pauses import MAX_PAUSE, HostPauses
from itwin_async.retries import RetryState

HOST = split("https://files.example/a")[0]
OTHER = split("https://other.example/a")[0]


@pytest.fixture(autouse=True)
def no_jitter(monkeypatch):
    monkeypatch.setattr(host_pauses, "jitter", lambda least, most: least)


def call(**options) -> RetryState:
    return RetryState(Retry(**{"max_throttled": 1e9, "max_retry_after": 1e9, **options}), "GET")


def throttled(retry_after: float | None = None) -> RateLimitError:
    error = RateLimitError("429")
    error.retry_after = retry_after
    return error


async def waited(pauses: HostPauses, state: RetryState, host=HOST) -> float:
    since = now()
    await pauses.wait(host, state, "token")
    return now() - since


def test_without_a_retry_after_the_pauses_of_a_call_grow(monkeypatch):
    monkeypatch.setattr(Retry, "backoff", lambda _, fault: 10.0 * fault)

    async def main():
        pauses, state = HostPauses(), call()
        for seconds in (10.0, 20.0, 30.0):
            pauses.begin(HOST, state, throttled())
            assert await waited(pauses, state) == pytest.approx(seconds)
        assert state.throttled == pytest.approx(60.0)

    run(main())


def test_a_pause_is_of_its_host_alone_and_the_longest_wins():
    async def main():
        pauses, state = HostPauses(), call()
        pauses.begin(HOST, state, throttled(30.0))
        pauses.begin(HOST, state, throttled(5.0))
        assert await waited(pauses, state, OTHER) == 0
        assert await waited(pauses, state) == pytest.approx(30.0)
        assert await waited(pauses, state) == 0

    run(main())


def test_a_pause_that_a_call_may_not_wait_for_is_raised_and_holds_for_others():
    async def main():
        pauses, short, asked = HostPauses(), call(max_retry_after=10), throttled(30.0)
        with pytest.raises(RateLimitError) as caught:
            pauses.begin(HOST, short, asked)
        assert caught.value is asked
        with pytest.raises(RateLimitError, match=r"files\.example asked for .* 30\.0 s") as caught:
            await pauses.wait(HOST, short, "token")
        error = caught.value
        assert (error.status, error.operation) == (429, "token")
        assert error.retry_after == pytest.approx(30.0)
        assert await waited(pauses, call()) == pytest.approx(30.0)

    run(main())


def test_pauses_together_are_bounded_by_max_throttled():
    async def main():
        pauses, state = HostPauses(), call(max_throttled=50)
        pauses.begin(HOST, state, throttled(30.0))
        await pauses.wait(HOST, state, "token")
        with pytest.raises(RateLimitError):
            pauses.begin(HOST, state, throttled(30.0))

    run(main())


def test_no_pause_is_longer_than_a_day():
    async def main():
        pauses, state = HostPauses(), call()
        pauses.begin(HOST, state, throttled(1e8))
        assert await waited(pauses, state) == pytest.approx(MAX_PAUSE)

    run(main())
