"""Calls that are cancelled, collected or overcome a failure leave nothing behind."""

import asyncio
import contextlib
import gc
import itertools
import tracemalloc
import weakref

import anyio
import pytest
from attempts import refused, short_waits
from support import (
    PACKAGE,
    RawServer,
    answer,
    cancelled_at_each_await,
    session_at,
    until,
)

from itwin_async import (
    ClientCredentials,
    DecodeError,
    ITwinSession,
    Limiter,
    NotFoundError,
    RateLimitError,
    Retry,
    TransportError,
    UnauthorizedError,
)
from itwin_async.limits import rate_limiter_of

__all__ = ["short_waits"]  # fixtures


OK = answer(PACKAGE)


async def cut(connection) -> None:
    await connection.request()
    await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{")


async def silent(connection) -> None:
    await connection.request()
    await connection.gone()


async def no_trace(itwin, server) -> None:
    await until(lambda: itwin.limiter.in_use == 0 and itwin.limiter.waiting == 0)
    session = itwin._executor
    assert not session.lifecycle.scopes
    assert not session._transport.open_responses


@pytest.mark.parametrize("how", ["task", "scope"])
async def test_a_call_cancelled_at_any_instant_leaves_nothing(how):
    turns = [refused(401), refused(500), refused(429), answer(b"<html>"), OK]
    seen = 0

    async def all_of_it(connection) -> None:
        nonlocal seen
        while True:
            await connection.request()
            text, seen = turns[seen % 5], seen + 1
            await connection.send(text[:20])
            await asyncio.sleep(0)
            await connection.send(text[20:])

    async def provider() -> str:
        await asyncio.sleep(0)
        return f"token-{next(numbers)}"

    numbers = itertools.count()
    async with RawServer(all_of_it) as server:
        limiter = Limiter(concurrency=10_000)  # after a throttle all start again within a second
        itwin = ITwinSession(
            provider, base_url=server.url, limiter=limiter, retry=Retry(attempts=9, base=0)
        )
        async with itwin:
            cancelled = 0
            for instant in range(400):
                seen = 0
                itwin._executor.tokens._token = None
                scope = anyio.CancelScope()

                async def call(scope=scope):
                    with scope:
                        return await itwin.packages.get_package("P")

                task = asyncio.create_task(call())
                for _ in range(instant):
                    if task.done():
                        break
                    await asyncio.sleep(0)
                if task.done():
                    break
                scope.cancel() if how == "scope" else task.cancel()
                (ended,) = await asyncio.gather(task, return_exceptions=True)
                cancelled += ended is None or isinstance(ended, asyncio.CancelledError)
                await no_trace(itwin, server)
            assert task.done()
            assert task.result().unique_name == "P"
            assert cancelled > 15
            assert (await itwin.packages.get_package("P")).unique_name == "P"
        await until(lambda: server.open == 0)


@pytest.mark.parametrize("when", ["waiting", "ready"])
async def test_a_call_that_is_cancelled_at_any_await_leaves_nothing(cancel_kind, when):
    numbers = itertools.count()
    turns = (refused(401), refused(500), refused(429), answer(b"<html>"), OK)

    async def provider() -> str:
        await asyncio.sleep(0)
        return f"token-{next(numbers)}"

    async def call():
        nonlocal turn
        turn = itertools.cycle(turns)
        itwin._executor.tokens._token = None
        return await itwin.packages.get_package("P")

    async def serve(connection) -> None:
        while True:
            await connection.request()
            await connection.send(next(turn))

    async def check(number) -> None:
        await no_trace(itwin, server)

    turn = itertools.cycle(turns)
    async with (
        RawServer(serve) as server,
        ITwinSession(
            provider,
            base_url=server.url,
            limiter=Limiter(concurrency=10_000),
            retry=Retry(attempts=9, base=0),
        ) as itwin,
    ):
        awaits, package = await cancelled_at_each_await(cancel_kind, call, check, when=when)
        assert package.unique_name == "P"
        assert awaits >= 8
    await until(lambda: server.open == 0)


async def test_a_call_cancelled_as_it_gets_its_slot_gives_it_back_unsent():
    limiter = Limiter(concurrency=1)
    async with RawServer(OK) as server, session_at(server, limiter=limiter) as itwin:
        slot = await rate_limiter_of(limiter).acquire()
        call = asyncio.create_task(itwin.packages.get_package("P"))
        await until(lambda: limiter.waiting)
        slot.release()
        call.cancel()
        await asyncio.wait([call])
        assert call.cancelled()
        assert limiter.in_use == 0
        assert not server.requests


async def test_a_timeout_of_the_callers_own_is_a_timeout_error():
    async with RawServer(silent) as server, session_at(server) as itwin:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await itwin.packages.get_package("P")
        await no_trace(itwin, server)
        await until(lambda: server.open == 0)


async def test_a_cancelled_call_cuts_its_connection():
    async with RawServer(silent) as server, session_at(server) as itwin:
        call = asyncio.create_task(itwin.packages.get_package("P"))
        await until(lambda: server.requests)
        call.cancel()
        await until(lambda: server.open == 0)


async def hang_up(connection) -> None:
    await connection.request()


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (refused(404), NotFoundError),
        (answer(b"{"), DecodeError),
        (cut, TransportError),
        (hang_up, TransportError),
        (refused(429, "Retry-After: 300"), RateLimitError),
        (refused(401), UnauthorizedError),
    ],
)
async def test_a_session_that_is_collected_with_an_error_closes_quietly(reply, kind, caplog):
    """The error leads to frames that lead to the session and to the error: a cycle."""
    async with RawServer(reply) as server:
        once = Retry(attempts=1, max_retry_after=1)
        itwin = session_at(server, retry=once)
        with contextlib.suppress(kind):
            await itwin.packages.get_package("P")
            raise AssertionError
        caplog.clear()
        gone = weakref.ref(itwin._executor)
        del itwin

        def collected() -> bool:  # a connection that was cut ends in a turn or two of the loop
            gc.collect()
            return gone() is None

        await until(collected)
        assert not caplog.records
        await until(lambda: server.open == 0)


async def test_a_failure_that_was_overcome_keeps_no_body():
    large = answer(b"[" + b" " * 8_000_000)
    async with RawServer(large, OK) as server, session_at(server, retry=Retry(base=0)) as itwin:
        gc.collect()
        gc.disable()  # a large body must not wait for the collector
        tracemalloc.start()
        try:
            await itwin.packages.get_package("P")
            assert tracemalloc.get_traced_memory()[0] < 1_000_000
        finally:
            tracemalloc.stop()
            gc.enable()
        assert len(server.requests) == 2


async def test_credentials_go_out_as_a_form():
    token = answer(b'{"access_token":"fresh"}')
    async with RawServer(token, OK) as server:
        credentials = ClientCredentials("id", "s/+=", token_url=f"{server.url}/connect/token")
        async with ITwinSession(credentials, base_url=server.url) as itwin:
            await itwin.packages.get_package("P")
        (sign_in, _) = server.requests
        assert sign_in.method == "POST"
        assert sign_in.target == "/connect/token"
        assert sign_in.headers["content-type"] == "application/x-www-form-urlencoded"
        assert sorted(sign_in.body.split(b"&")) == [
            b"client_id=id",
            b"client_secret=s%2F%2B%3D",
            b"grant_type=client_credentials",
            b"scope=itwin-platform",
        ]
