"""Which request is sent again after which failure, as a server sees it."""

import asyncio

import pytest
from attempts import Tokens, refused, short_waits
from support import (
    PACKAGE,
    RawServer,
    answer,
    session_at,
    until,
)

from itwin_async import (
    ConflictError,
    DecodeError,
    ITwinError,
    ITwinSession,
    Limiter,
    NotFoundError,
    ResponseError,
    Retry,
    TransportError,
)

__all__ = ["short_waits"]  # fixtures


OK = answer(PACKAGE)


THREE = Retry(attempts=3, base=0)


REPEATABLE = ("GET", "HEAD", "PUT", "DELETE")


NEVER = ("POST", "PATCH")


async def reset(connection) -> None:
    await connection.request()
    connection.reset()


async def fin(connection) -> None:
    await connection.request()


async def cut(connection) -> None:
    await connection.request()
    await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{")


async def silent(connection) -> None:
    await connection.request()
    await connection.gone()


FAULTS = {
    "408": refused(408),
    "425": refused(425),
    "500": refused(500),
    "502": refused(502),
    "503": refused(503),
    "504": refused(504),
    "599": refused(599),
    "reset": reset,
    "closed": fin,
    "silent": silent,
}


@pytest.mark.parametrize("method", REPEATABLE)
@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_is_tried_again_where_twice_is_as_good_as_once(fault, method):
    async with (
        RawServer(FAULTS[fault]) as server,
        session_at(server, retry=THREE, timeout=0.1 if fault == "silent" else 60) as itwin,
    ):
        with pytest.raises(ITwinError):
            await itwin.request(method, "/x")
        assert [got.method for got in server.requests] == [method] * 3
        assert itwin.stats.retries == 2


@pytest.mark.parametrize("method", NEVER)
@pytest.mark.parametrize("fault", [name for name in FAULTS if name != "425"])
async def test_a_fault_of_a_write_with_unknown_outcome_is_final_and_says_so(fault, method):
    async with (
        RawServer(FAULTS[fault]) as server,
        session_at(server, retry=THREE, timeout=0.1 if fault == "silent" else 60) as itwin,
    ):
        with pytest.raises(ITwinError, match="may have been carried out") as caught:
            await itwin.request(method, "/x", body={})
        assert caught.value.outcome_unknown
        assert len(server.requests) == 1


@pytest.mark.parametrize(("method", "seen"), [("GET", 3), ("PUT", 3), ("POST", 1)])
async def test_a_cut_body_is_a_fault(method, seen):
    async with RawServer(cut) as server, session_at(server, retry=THREE) as itwin:
        with pytest.raises(TransportError) as caught:
            await itwin.request(method, "/x")
        assert caught.value.reason == "cut"
        assert caught.value.outcome_unknown == (method != "GET")
        assert len(server.requests) == seen


@pytest.mark.parametrize("method", REPEATABLE + NEVER)
@pytest.mark.parametrize("status", [302, 400, 403, 404, 409, 422])
async def test_a_refusal_is_final(status, method):
    async with RawServer(refused(status)) as server, session_at(server, retry=THREE) as itwin:
        with pytest.raises(ResponseError) as caught:
            await itwin.request(method, "/x")
        assert caught.value.status == status
        assert not caught.value.outcome_unknown
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("method", "seen"), [("GET", 2), ("PUT", 1), ("DELETE", 1), ("POST", 1), ("PATCH", 1)]
)
async def test_an_answer_that_does_not_decode_is_asked_for_once_more_by_get_alone(method, seen):
    retry = Retry(attempts=9, base=0)
    async with RawServer(answer(b"<html>")) as server, session_at(server, retry=retry) as itwin:
        with pytest.raises(DecodeError) as caught:
            await itwin.request(method, "/x")
        assert caught.value.outcome_unknown == (method != "GET")
        assert len(server.requests) == seen


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_refused_connection_is_tried_again_for_every_method(method, unused_tcp_port):
    url = f"http://127.0.0.1:{unused_tcp_port}"
    async with ITwinSession(Tokens(), base_url=url, retry=THREE) as itwin:
        with pytest.raises(TransportError) as caught:
            await itwin.request(method, "/x")
        assert caught.value.reason == "refused"
        assert not caught.value.outcome_unknown
        assert itwin.stats.retries == 2


async def test_a_fault_that_passes_is_not_noticed():
    async with (
        RawServer(refused(500), refused(503), OK) as server,
        session_at(server, retry=THREE) as itwin,
    ):
        assert (await itwin.packages.get_package("P")).unique_name == "P"
        assert len(server.requests) == 3


@pytest.mark.parametrize("method", REPEATABLE)
async def test_one_attempt_that_is_reset_is_seen_exactly_once(method):
    async with RawServer(reset) as server, session_at(server, retry=Retry(attempts=1)) as itwin:
        with pytest.raises(TransportError):
            await itwin.request(method, "/x")
        assert len(server.requests) == 1


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_one_attempt_over_a_kept_connection_is_seen_exactly_once(method):
    async def ok_then_reset(connection) -> None:
        await connection.request()
        await connection.send(OK)
        await connection.request()
        connection.reset()

    async with (
        RawServer(ok_then_reset) as server,
        session_at(server, retry=Retry(attempts=1)) as itwin,
    ):
        await itwin.packages.get_package("P")
        with pytest.raises(TransportError):
            await itwin.request(method, "/x")
        assert len(server.requests) == 2


async def test_a_kept_connection_that_ended_costs_a_get_one_counted_retry():
    async def ok_then_reset(connection) -> None:
        await connection.request()
        await connection.send(OK)
        await connection.request()
        connection.reset()

    async with RawServer(ok_then_reset) as server, session_at(server, retry=THREE) as itwin:
        await itwin.packages.get_package("P")
        await itwin.packages.get_package("P")
        assert itwin.stats.retries == 1
        assert len(server.requests) == 3


async def test_a_conflict_after_an_unknown_outcome_may_be_our_own_doing():
    async with (
        RawServer(refused(500), refused(404)) as server,
        session_at(server, retry=THREE) as itwin,
    ):
        with pytest.raises(NotFoundError, match="may have been carried out"):
            await itwin.request("DELETE", "/x")


async def test_a_conflict_at_first_is_nobodys_doing_but_the_servers():
    async with RawServer(refused(409)) as server, session_at(server, retry=THREE) as itwin:
        with pytest.raises(ConflictError) as caught:
            await itwin.request("PUT", "/x")
        assert not caught.value.outcome_unknown


async def test_no_slot_is_held_between_attempts():
    limiter = Limiter(concurrency=1)
    retry = Retry(base=600.0, cap=600.0)
    async with (
        RawServer(refused(500), OK) as server,
        session_at(server, limiter=limiter, retry=retry) as itwin,
    ):
        waiting = asyncio.create_task(itwin.packages.get_package("P"))
        await until(lambda: itwin.stats.retries)
        assert limiter.in_use == 0
        await itwin.packages.get_package("P")
        waiting.cancel()
