"""Calls that wait for the end of an outage hold nothing, can be cancelled, and go on in turn."""

import asyncio
from contextlib import suppress

import anyio
import pytest
from origins import FOREVER, OK, PATIENT, Origin, break_down, breaker, call, refused, waiting
from support import (
    Clock,
    Connection,
    RawServer,
    cancelled_at_each_await,
    session_at,
    until,
)
from virtual_time import now, run

from itwin_async import (
    Limiter,
    Retry,
    ServerError,
    TransportError,
)
from itwin_async._http.instrumentation import Instrumentation
from itwin_async._http.outages import CircuitBreaker
from itwin_async.retries import RetryState


async def test_waiting_holds_no_slot():
    limiter = Limiter(2)
    retry = Retry(9, base=FOREVER, cap=FOREVER)
    async with Origin() as origin, session_at(origin, retry=retry, limiter=limiter) as itwin:
        calls = await break_down(itwin, origin, calls=30)
        await until(lambda: waiting(itwin) >= 28)
        assert (limiter.in_use, limiter.waiting) == (0, 0)
        for task in calls:
            task.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        assert breaker(itwin)._timer is None


def in_an_outage(retry: Retry) -> CircuitBreaker:
    """A circuit breaker of an outage that begins now."""
    gate = CircuitBreaker("https://origin.example", retry, Instrumentation(None))
    for target in ("/a", "/b"):
        gate.on_failure(TransportError(), target, RetryState(retry, "GET"), None)
    return gate


def test_the_first_probe_is_sent_when_a_call_that_failed_once_would_be_repeated():
    async def delay() -> float:
        return in_an_outage(Retry(9, base=10.0, cap=1_000.0)).until_probe()

    assert all(5.0 <= run(delay()) <= 10.0 for _ in range(20))


def test_a_probe_that_is_given_back_leaves_a_pause_that_was_asked_for_meanwhile():
    async def main() -> None:
        retry = Retry(9, base=1.0)
        gate, call = in_an_outage(retry), RetryState(retry, "GET")
        probe = await gate.enter(call, "GET /a")
        late = ServerError("maintenance")
        late.status, late.retry_after = 503, 30.0
        gate.on_failure(late, "/c", RetryState(retry, "GET"), None)
        probe.release()
        assert gate.until_probe() == pytest.approx(30.0)

    run(main())


async def restarts(count: int) -> list[float]:
    """When so many calls that wait for the end of an outage start, in seconds after it."""
    retry = Retry(9, base=FOREVER, cap=FOREVER)
    gate = in_an_outage(retry)
    starts = []

    async def enter() -> None:
        assert await gate.enter(RetryState(retry, "GET"), "GET /a") is None
        starts.append(now() - ended)

    calls = [asyncio.ensure_future(enter()) for _ in range(count)]
    await asyncio.sleep(60.0)
    gate.on_response(200)
    ended = now()
    await asyncio.gather(*calls)
    assert gate.clear
    return starts


@pytest.mark.parametrize(
    ("count", "interval", "batch"),
    [(1, 1.0, 1), (4, 0.25, 1), (100, 0.01, 1), (250, 0.01, 3), (1_000, 0.01, 10)],
)
def test_calls_restart_one_after_another_within_a_second(count, interval, batch):
    expected = [number // batch * interval for number in range(count)]
    assert run(restarts(count)) == pytest.approx(expected)


@pytest.mark.parametrize("how", ["cancel", "scope"])
async def test_a_cancelled_probe_goes_to_another_call(how):
    async with Origin() as origin, session_at(origin, retry=PATIENT) as itwin:
        scopes = [anyio.CancelScope() for _ in range(3)]

        async def scoped(number: int):
            with scopes[number]:
                return await call(itwin, number)

        origin.down = "reset"
        calls = [asyncio.ensure_future(scoped(number)) for number in range(3)]
        await until(lambda: itwin.stats.outages)
        origin.hold.clear()
        count = len(origin.while_down)
        await until(lambda: len(origin.while_down) > count)
        probing = int(origin.while_down[-1].rpartition("/")[2])
        await until(lambda: waiting(itwin) == 2)
        if how == "cancel":
            calls[probing].cancel()
        else:
            scopes[probing].cancel()
        await until(lambda: len(origin.while_down) > count + 1)
        assert not origin.while_down[-1].endswith(f"/{probing}")
        origin.down = OK
        origin.hold.set()
        calls.pop(probing)
        assert await asyncio.gather(*calls) == [{}] * 2


@pytest.mark.parametrize("how", ["cancel", "scope"])
async def test_a_cancelled_waiter_harms_nobody(how):
    retry = Retry(9, base=FOREVER, cap=FOREVER)
    async with Origin() as origin, session_at(origin, retry=retry) as itwin:
        with Clock() as clock:
            calls = await break_down(itwin, origin)
            scope = anyio.CancelScope()

            async def scoped():
                with scope:
                    return await call(itwin, 9)

            third = asyncio.ensure_future(scoped())
            await until(lambda: waiting(itwin) >= 2)
            third.cancel() if how == "cancel" else scope.cancel()
            with suppress(asyncio.CancelledError):
                await third
            origin.down = None
            clock.forward(2 * FOREVER)
            assert await asyncio.gather(*calls) == [{}] * 2


async def test_a_deadline_before_the_next_probe_is_an_error_at_once():
    retry = Retry(9, base=FOREVER, cap=FOREVER)
    async with Origin() as origin, session_at(origin, retry=retry) as itwin:
        calls = await break_down(itwin, origin)
        sent = len(origin.requests)
        with anyio.fail_after(60), pytest.raises(TransportError, match="an outage for") as caught:
            await call(itwin, 5)
        assert (caught.value.operation, caught.value.request_id) == ("GET /things/5", None)
        assert len(origin.requests) == sent
        for task in calls:
            task.cancel()


@pytest.mark.slow
async def test_a_write_that_was_not_sent_waits_and_probes_last():
    async with Origin() as origin, session_at(origin, retry=PATIENT) as itwin:
        calls = await break_down(itwin, origin)
        write = asyncio.ensure_future(call(itwin, 5, "POST"))
        await until(lambda: itwin.stats.probes >= 4)
        assert "POST /things/5" not in origin.while_down
        origin.down = None
        assert await write == {}
        await asyncio.gather(*calls)
        assert [got.method for got in origin.requests].count("POST") == 1


async def test_a_write_that_may_have_been_carried_out_is_not_sent_again():
    async with Origin() as origin, session_at(origin, retry=PATIENT) as itwin:
        origin.down = "reset"
        errors = await asyncio.gather(
            *(call(itwin, number, "POST") for number in range(3)), return_exceptions=True
        )
        assert all(isinstance(error, TransportError) for error in errors)
        assert len(origin.while_down) == 3
        assert all(error.outcome_unknown for error in errors)


async def test_an_error_of_an_outage_leads_to_no_frame():
    retry = Retry(2, base=0.001, cap=0.002)
    async with Origin() as origin, session_at(origin, retry=retry) as itwin:
        origin.down = "reset"
        calls = [asyncio.ensure_future(call(itwin, number)) for number in range(10)]
        await asyncio.gather(*calls, return_exceptions=True)
        assert breaker(itwin)._failure.__traceback__ is None
        assert breaker(itwin)._failure.__context__ is None


@pytest.mark.slow
async def test_calls_that_come_after_an_outage_do_not_queue_behind_those_that_waited():
    async with Origin() as origin, session_at(origin, retry=PATIENT) as itwin:
        calls = await break_down(itwin, origin, calls=4)
        origin.down = None
        await until(lambda: not breaker(itwin).open)
        for number in range(50):
            assert await call(itwin, number) == {}
        await asyncio.gather(*calls)
        assert breaker(itwin).clear


@pytest.mark.parametrize("when", ["waiting", "ready"])
async def test_a_call_of_an_outage_cancelled_at_any_await_keeps_nobody_waiting(cancel_kind, when):
    retry = Retry(99, base=0)
    others: list[asyncio.Future] = []
    failing = 0  # requests, before one succeeds

    async def one():
        nonlocal failing
        failing = 3
        for target in ("/a", "/b"):
            breaker(itwin).on_failure(TransportError(), target, RetryState(retry, "GET"), None)
        assert breaker(itwin).open
        others.append(asyncio.ensure_future(call(itwin, 2)))
        return await call(itwin, 1)

    async def serve(connection: Connection) -> None:
        nonlocal failing
        while True:
            await connection.request()
            failing -= 1
            await connection.send(OK if failing < 0 else refused(503))

    async def check(number: int) -> None:
        assert await others.pop() == {}
        gate = breaker(itwin)
        assert (gate.open, gate._probe, gate._timer) == (False, None, None)
        assert not gate._waiting

    async with RawServer(serve) as server, session_at(server, retry=retry) as itwin:
        await call(itwin, 0)  # the token is there
        awaits, _ = await cancelled_at_each_await(cancel_kind, one, check, when=when)
        await check(awaits)
        assert awaits >= 6
