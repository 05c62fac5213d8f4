"""Retries, throttles and tokens, as a server sees them."""

import asyncio
import contextlib
import gc
import itertools
import sys
import tracemalloc
import weakref

import anyio
import msgspec
import pytest
from support import (
    PACKAGE,
    Clock,
    RawServer,
    answer,
    cancelled_at_each_await,
    session_at,
    until,
)

from itwin_async import (
    ClientCredentials,
    ConflictError,
    DecodeError,
    ForbiddenError,
    InvalidRequestError,
    ITwinError,
    ITwinSession,
    Limiter,
    LinkError,
    NotFoundError,
    RateLimitError,
    ResponseError,
    Retry,
    ServerError,
    Token,
    TransportError,
    UnauthorizedError,
)
from itwin_async._http import executor, external
from itwin_async.emulator import Delay, Edit, Garbage, Reset, Status, Throttle

OK = answer(PACKAGE)
THREE = Retry(attempts=3, base=0)
REPEATABLE = ("GET", "HEAD", "PUT", "DELETE")
NEVER = ("POST", "PATCH")


HOST = "127.0.0.1"
FLOOR = executor.DEFAULT_RETRY_AFTER


@pytest.fixture(autouse=True)
def impatience(monkeypatch):
    """A throttle that names no time is over at once, but where its floor is what is tested."""
    for module in (executor, external):
        monkeypatch.setattr(module, "DEFAULT_RETRY_AFTER", 0.0)


def refused(status: int, *headers: str, body: bytes = b"") -> bytes:
    return answer(body, *headers, status=f"{status} X")


class Tokens:
    """A provider whose every token is another one."""

    def __init__(self, *values: str, life: float | None = None) -> None:
        self.given = 0
        self._values = iter(values) if values else (f"token-{n}" for n in itertools.count(1))
        self._lifecycle = life

    async def __call__(self) -> Token:
        self.given += 1
        return Token(next(self._values), self._lifecycle)


# Law 8: which request is sent again


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
async def test_a_fault_of_a_write_in_doubt_is_final_and_says_so(fault, method):
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


async def test_a_conflict_after_a_failure_in_doubt_may_be_our_own_doing():
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


# Law 7: throttles


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


async def test_a_pause_longer_than_allowed_is_an_error_at_once():
    async with RawServer(refused(429, "Retry-After: 86400")) as server, session_at(server) as itwin:
        with pytest.raises(RateLimitError) as caught:
            await itwin.packages.get_package("P")
        assert caught.value.status == 429
        assert caught.value.retry_after == pytest.approx(86_400, abs=10)


async def test_who_cannot_wait_for_the_door_is_turned_away_unsent():
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
    monkeypatch.setattr("itwin_async._http.executor.DEFAULT_RETRY_AFTER", FLOOR)
    retry = Retry(base=0, max_throttled=FLOOR / 2)
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


# Law 9: tokens


async def test_a_401_is_tried_once_more_with_another_token():
    async with RawServer(refused(401), OK) as server:
        async with ITwinSession(Tokens(), base_url=server.url, retry=Retry(attempts=1)) as itwin:
            await itwin.packages.get_package("P")
        sent = [got.headers["authorization"] for got in server.requests]
        assert sent == ["Bearer token-1", "Bearer token-2"]


async def test_a_401_of_a_write_is_tried_once_more_too():
    async with RawServer(refused(401), OK) as server:
        async with ITwinSession(Tokens(), base_url=server.url) as itwin:
            await itwin.request("POST", "/x", body={"a": 1})
        assert [got.body for got in server.requests] == [b'{"a":1}'] * 2


async def test_a_401_with_the_same_token_again_is_final():
    provider = Tokens("same", "same", "same")
    async with RawServer(refused(401)) as server:
        async with ITwinSession(provider, base_url=server.url) as itwin:
            with pytest.raises(UnauthorizedError):
                await itwin.packages.get_package("P")
        assert len(server.requests) == 1
        assert provider.given == 2


async def test_a_second_401_is_final():
    provider = Tokens()
    async with RawServer(refused(401)) as server:
        async with ITwinSession(provider, base_url=server.url) as itwin:
            with pytest.raises(UnauthorizedError):
                await itwin.packages.get_package("P")
        assert len(server.requests) == 2
        assert provider.given == 2


async def test_a_401_costs_no_attempt():
    answers = (refused(500), refused(401), refused(500), OK)
    async with RawServer(*answers) as server:
        async with ITwinSession(Tokens(), base_url=server.url, retry=THREE) as itwin:
            await itwin.packages.get_package("P")
        assert len(server.requests) == 4


async def test_a_403_asks_for_no_other_token():
    provider = Tokens()
    async with RawServer(refused(403)) as server:
        async with ITwinSession(provider, base_url=server.url) as itwin:
            with pytest.raises(ForbiddenError):
                await itwin.packages.get_package("P")
        assert provider.given == 1


async def test_twenty_401_at_once_are_one_renewal(emulator):
    limiter = Limiter(concurrency=20)
    async with ITwinSession(emulator.credentials, base_url=emulator.url, limiter=limiter) as itwin:
        await itwin.itwins.get_primary_account()
        emulator.expire_tokens()
        emulator.latency = 0.05  # so that all of them are under way with the old token
        await asyncio.gather(*(itwin.itwins.get_primary_account() for _ in range(20)))
        assert emulator.count("token") == 2
        assert emulator.count("get_primary_account") == 41


async def test_a_late_401_does_not_drop_the_token_that_came_since(emulator, itwin):
    await itwin.itwins.get_primary_account()
    emulator.faults.add("get_primary_account", [Delay(0.1), Status(401)])
    late = asyncio.create_task(itwin.itwins.get_primary_account())
    await until(lambda: emulator.count("get_primary_account") == 2)
    emulator.expire_tokens()
    await itwin.itwins.get_primary_account()
    await late
    assert emulator.count("token") == 2


async def test_fifty_lists_at_once_ask_for_one_token(emulator, itwin):
    async def count() -> int:
        return len([item async for item in itwin.itwins.list_itwins()])

    assert await asyncio.gather(*(count() for _ in range(50))) == [3] * 50
    assert emulator.count("token") == 1


async def test_fifty_lists_at_once_renew_a_token_that_ended_once(emulator, itwin):
    async def count() -> int:
        return len([item async for item in itwin.itwins.list_itwins()])

    with Clock() as clock:
        await count()
        clock.forward(3_600)
        await asyncio.gather(*(count() for _ in range(50)))
    assert emulator.count("token") == 2
    assert all(got.status == 200 for got in emulator.requests)


async def test_a_token_is_renewed_ahead_of_its_end_and_nobody_waits():
    released = asyncio.Event()
    provider = Tokens(life=3_600.0)

    async def slowly() -> Token:
        if provider.given:
            await released.wait()
        return await provider()

    async with RawServer(OK) as server:
        with Clock() as clock:
            async with ITwinSession(slowly, base_url=server.url) as itwin:
                await itwin.packages.get_package("P")
                clock.forward(3_600 - 299)
                await itwin.packages.get_package("P")
                released.set()
                await until(lambda: itwin.stats.renewals == 2)
                await itwin.packages.get_package("P")
        sent = [got.headers["authorization"] for got in server.requests]
        assert sent == ["Bearer token-1", "Bearer token-1", "Bearer token-2"]


async def test_a_renewal_ahead_that_fails_leaves_the_old_token_in_use(emulator, itwin, caplog):
    with Clock() as clock:
        await itwin.itwins.get_primary_account()
        emulator.faults.add("token", Status(400), times=None)
        clock.forward(3_600 - 299)
        await itwin.itwins.get_primary_account()
        await until(lambda: emulator.count("token") == 2)
        await itwin.itwins.get_primary_account()
    assert "renewed ahead" in caplog.text


async def test_no_token_is_used_in_its_last_seconds(emulator, itwin):
    with Clock() as clock:
        await itwin.itwins.get_primary_account()
        clock.forward(3_600 - 59)
        await itwin.itwins.get_primary_account()
    sent = [r.headers["Authorization"] for r in emulator.requests if r.operation != "token"]
    assert sent[0] != sent[1]


async def test_a_jump_of_the_wall_clock_changes_nothing(emulator, itwin, monkeypatch):
    await itwin.itwins.get_primary_account()
    monkeypatch.setattr("time.time", lambda: 4e9)
    await itwin.itwins.get_primary_account()
    assert emulator.count("token") == 1


async def test_a_cancelled_waiter_cancels_nobody_elses_token(emulator, itwin):
    emulator.faults.add("token", Delay(0.1))
    first = asyncio.create_task(itwin.itwins.get_primary_account())
    others = [asyncio.create_task(itwin.itwins.get_primary_account()) for _ in range(5)]
    await until(lambda: emulator.count("token"))
    first.cancel()
    await asyncio.gather(*others)
    assert first.cancelled()
    assert emulator.count("token") == 1


async def test_a_token_is_fetched_outside_the_limiter(emulator):
    limiter = Limiter(concurrency=1)
    async with (
        RawServer(silent) as elsewhere,
        session_at(elsewhere, limiter=limiter) as busy,
        ITwinSession(emulator.credentials, base_url=emulator.url, limiter=limiter) as itwin,
    ):
        holding = asyncio.create_task(busy.packages.get_package("P"))
        await until(lambda: limiter.in_use)
        waiting = asyncio.create_task(itwin.itwins.get_primary_account())
        await until(lambda: emulator.count("token"))
        holding.cancel()
        await waiting


@pytest.mark.parametrize("fault", [Status(500), Status(503), Reset(), Garbage()], ids=repr)
async def test_a_token_endpoint_that_fails_once_is_asked_again(emulator, fault):
    emulator.faults.add("token", fault)
    async with ITwinSession(emulator.credentials, base_url=emulator.url, retry=THREE) as itwin:
        await itwin.itwins.get_primary_account()
    assert emulator.count("token") == 2


async def test_a_token_endpoint_that_is_down_fails_all_waiters_alike_and_is_asked_anew(emulator):
    emulator.faults.add("token", Status(500), times=3)
    async with ITwinSession(emulator.credentials, base_url=emulator.url, retry=THREE) as itwin:
        calls = (itwin.itwins.get_primary_account() for _ in range(10))
        failed = await asyncio.gather(*calls, return_exceptions=True)
        assert {(type(error), str(error)) for error in failed} == {
            (
                ServerError,
                "500 server_error: the sign-in host 127.0.0.1 refused: Internal Server Error",
            )
        }
        assert emulator.count("token") == 3
        await itwin.itwins.get_primary_account()
        assert emulator.count("get_primary_account") == 1


async def test_a_token_endpoint_that_is_silent_ends_at_the_timeout(emulator):
    emulator.faults.add("token", Delay(30), times=None)
    retry = Retry(attempts=2, base=0)
    async with ITwinSession(
        emulator.credentials, base_url=emulator.url, retry=retry, timeout=0.05
    ) as itwin:
        with pytest.raises(TransportError) as caught:
            await itwin.itwins.get_primary_account()
        assert caught.value.reason == "timeout"
        assert caught.value.operation == "token"
    assert emulator.count("token") == 2


@pytest.mark.parametrize("status", [400, 401, 403])
async def test_a_token_endpoint_that_refuses_is_final(emulator, status):
    emulator.faults.add("token", Status(status), times=None)
    async with ITwinSession(emulator.credentials, base_url=emulator.url) as itwin:
        with pytest.raises(UnauthorizedError, match="invalid_client") as caught:
            await itwin.itwins.get_primary_account()
        assert caught.value.status == status
    assert emulator.count("token") == 1
    assert emulator.count("get_primary_account") == 0


async def test_a_throttled_token_endpoint_is_asked_again(emulator):
    emulator.faults.add("token", Throttle("soon"), times=2)
    retry = Retry(base=0.001)
    async with ITwinSession(emulator.credentials, base_url=emulator.url, retry=retry) as itwin:
        await itwin.itwins.get_primary_account()
        assert itwin.limiter.paused_for() == 0
    assert emulator.count("token") == 3


async def test_a_token_endpoint_that_throttles_for_too_long_is_an_error_at_once(emulator):
    emulator.faults.add("token", Throttle(9_999), times=None)
    async with ITwinSession(emulator.credentials, base_url=emulator.url) as itwin:
        async with asyncio.timeout(10):
            with pytest.raises(RateLimitError) as caught:
                await itwin.itwins.get_primary_account()
        assert caught.value.retry_after == 9_999
    assert emulator.count("token") == 1


async def test_a_token_endpoint_is_not_followed_elsewhere(emulator):
    async with RawServer(OK) as other:
        emulator.faults.add(
            "token", Status(307, headers={"Location": f"{other.url}/connect/token"}), times=None
        )
        async with ITwinSession(emulator.credentials, base_url=emulator.url) as itwin:
            with pytest.raises(LinkError):
                await itwin.itwins.get_primary_account()
        assert other.opened == 0


@pytest.mark.parametrize(
    "body", [b"{}", b"[]", b"null", b'"t"', b'{"access_token":5}', b'{"access_token":"a b"}']
)
async def test_a_token_answer_without_a_token_is_a_decode_error(emulator, body):
    emulator.faults.add("token", Status(200, body=body), times=None)
    async with ITwinSession(emulator.credentials, base_url=emulator.url, retry=THREE) as itwin:
        with pytest.raises(DecodeError, match="access_token"):
            await itwin.itwins.get_primary_account()


@pytest.mark.parametrize("life", [None, 0, -1, "rubbish", "NaN", [], 10**400], ids=str)
async def test_a_strange_life_of_a_token_is_an_hour(emulator, life):
    def edit(data) -> bytes:
        data["expires_in"] = "LIFE"
        return msgspec.json.encode(data).replace(b'"LIFE"', life_text)

    text = str(life) if isinstance(life, int) else None
    life_text = text.encode() if text else msgspec.json.encode(life)
    emulator.faults.add("token", Edit(edit), times=None)
    lives = []
    async with ITwinSession(
        emulator.credentials,
        base_url=emulator.url,
        retry=THREE,
        on_event=lambda event: lives.append(getattr(event, "expires_in", None)),
    ) as itwin:
        await itwin.itwins.get_primary_account()
    assert 3_600.0 in lives


# Cancelling


async def no_trace(itwin, server) -> None:
    await until(lambda: itwin.limiter.in_use == 0 and itwin.limiter.waiting == 0)
    session = itwin._executor
    assert not session.lifecycle.calls
    assert not session._transport.open_answers


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
        slot = await limiter.acquire()
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


# Refusals and redirects

CLASSES = {
    302: ResponseError,
    400: InvalidRequestError,
    401: UnauthorizedError,
    403: ForbiddenError,
    404: NotFoundError,
    405: ResponseError,
    409: ConflictError,
    413: ResponseError,
    422: InvalidRequestError,
    500: ServerError,
    599: ServerError,
}


@pytest.mark.parametrize("status", CLASSES)
async def test_a_status_has_its_own_error(status):
    async with (
        RawServer(refused(status)) as server,
        session_at(server, retry=Retry(attempts=1)) as itwin,
    ):
        with pytest.raises(ResponseError) as caught:
            await itwin.packages.get_package("P")
        assert type(caught.value) is CLASSES[status]
        assert caught.value.status == status
        assert caught.value.operation == "GET /edfs/packages/{unique_name}"


async def test_a_refusal_keeps_what_the_platform_said():
    body = (
        b'{"error":{"code":"InvalidX","message":"Cannot.","target":"x",'
        b'"details":[{"code":"InvalidValue","message":"m","target":"$skip","innerError":{}}]}}'
    )
    async with RawServer(refused(422, body=body)) as server, session_at(server) as itwin:
        with pytest.raises(InvalidRequestError) as caught:
            await itwin.packages.get_package("P")
        error = caught.value
        assert str(error) == "422 InvalidX: Cannot. $skip: m"
        assert error.target == "x"
        (detail,) = error.details
        assert (detail.code, detail.message, detail.target) == ("InvalidValue", "m", "$skip")


BODIES = [
    b"",
    b"<html><body>Bad\r\nGateway</body></html>",
    b"\xff\xfe\x00",
    b"null",
    b"[]",
    b'"text"',
    b'{"error":null}',
    b'{"error":[]}',
    b'{"error":{"code":5,"message":{},"details":"x","target":[]}}',
    b'{"error":{"details":[null,5,{"code":null}]}}',
    b'{"code":"Unwrapped","message":"m"}',
    b'{"type":"about:blank","title":"Problem","detail":"d"}',
    b"[" * 50_000,
    b'{"error":' * 5_000,
    b"\x00" * 70_000,
    b"1" * 100_000,
]


@pytest.mark.parametrize("body", BODIES, ids=lambda body: repr(body[:30]))
async def test_a_refusal_of_any_shape_is_one_printable_line(body):
    async with RawServer(refused(404, body=body)) as server, session_at(server) as itwin:
        with pytest.raises(NotFoundError) as caught:
            await itwin.packages.get_package("P")
        said = str(caught.value)
        assert said.startswith("404")
        assert said.isprintable()
        assert len(said) < 500


async def test_an_endless_refusal_is_read_no_further_than_it_is_worth():
    async def endless(connection) -> None:
        await connection.request()
        await connection.send(b"HTTP/1.1 404 X\r\nContent-Length: 99999999999\r\n\r\n")
        for sent in range(1_000_000):
            mebibytes.append(sent)
            await connection.send(b"x" * (1 << 20))

    mebibytes = []
    async with RawServer(endless) as server, session_at(server) as itwin:
        with pytest.raises(NotFoundError):
            await itwin.packages.get_package("P")
        await until(lambda: server.open == 0)
    assert len(mebibytes) < 64  # most of it the sockets' own buffers


async def test_a_redirect_is_not_followed():
    async with RawServer(refused(307, "Location: /elsewhere"), OK) as server:
        async with session_at(server) as itwin:
            with pytest.raises(ResponseError, match="307"):
                await itwin.packages.get_package("P")
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    "location",
    [
        "https://evil.example/take?sig=SECRET",
        "//evil.example/take?sig=SECRET",
        "http://api.bentley.com@evil.example/?sig=SECRET",
        "https:///x?sig=SECRET",
        "http://[::1/?sig=SECRET",
        "javascript:SECRET",
        # In development mode aiohttp reads strictly, and takes no control character.
        *([] if sys.flags.dev_mode else ["\x7f SECRET \xff"]),
    ],
)
async def test_a_redirect_to_another_origin_is_a_link_error_without_its_query(location):
    async with RawServer(refused(302, f"Location: {location}")) as server:
        async with session_at(server) as itwin:
            with pytest.raises(LinkError) as caught:
                await itwin.packages.get_package("P")
            assert "SECRET" not in str(caught.value)
        assert len(server.requests) == 1


async def test_a_redirect_to_another_port_is_another_origin():
    async with RawServer(OK) as other:
        moved = refused(302, f"Location: {other.url}/edfs/packages/P")
        async with RawServer(moved) as server, session_at(server) as itwin:
            with pytest.raises(LinkError, match=str(other.port)):
                await itwin.packages.get_package("P")
        assert other.opened == 0


# Successes that are none


async def test_a_page_of_a_gateway_is_a_decode_error_that_names_its_type():
    portal = answer(b"<html>", "Content-Type: text/html; charset=utf-8")
    async with RawServer(portal) as server, session_at(server, retry=THREE) as itwin:
        with pytest.raises(DecodeError, match="text/html"):
            await itwin.packages.get_package("P")


@pytest.mark.parametrize("empty", [answer(), answer(status="204 No Content")])
async def test_an_empty_success_where_json_is_declared_is_a_decode_error(empty):
    async with RawServer(empty) as server, session_at(server, retry=THREE) as itwin:
        with pytest.raises(DecodeError, match="empty body"):
            await itwin.packages.get_package("P")


@pytest.mark.parametrize("kind", ["text/plain", "", "application/octet-stream", "\xff", "a/b; c="])
async def test_json_of_any_content_type_is_read(kind):
    async with (
        RawServer(answer(PACKAGE, f"Content-Type: {kind}")) as server,
        session_at(server) as itwin,
    ):
        assert (await itwin.packages.get_package("P")).name == "Package"


NOT_DECODED = {
    "not utf-8": b'{"uniqueName":"\xff"}',
    "BOM": b"\xef\xbb\xbf" + PACKAGE,
    "NaN": b'{"uniqueName":NaN}',
    "deep": b'{"x":' + b"[" * 200_000,
    "deep and whole": b'{"x":' + b"[" * 200_000 + b"]" * 200_000 + b"}",
    "cut": PACKAGE[:-1],
    "trailing": PACKAGE + b"x",
    "wrong type": b'{"uniqueName":5}',
    "list": b"[]",
    "null": b"null",
    "lone surrogate": b'{"uniqueName":"\\ud800"}',
}


@pytest.mark.parametrize("body", NOT_DECODED.values(), ids=NOT_DECODED)
async def test_what_is_not_the_declared_json_is_a_decode_error(body):
    async with RawServer(answer(body)) as server, session_at(server, retry=THREE) as itwin:
        with pytest.raises(DecodeError, match=r"GET /edfs/packages/\{unique_name\}"):
            await itwin.packages.get_package("P")
        assert len(server.requests) == 2


async def test_a_number_of_a_hundred_thousand_digits_in_an_unknown_field_is_no_matter():
    body = b'{"uniqueName":"P","x":' + b"1" * 100_000 + b"}"
    async with RawServer(answer(body)) as server, session_at(server) as itwin:
        assert (await itwin.packages.get_package("P")).unique_name == "P"


async def test_unknown_fields_are_ignored_and_unknown_words_kept():
    body = b'{"uniqueName":"P","projectStage":"Beta","new":{"a":[1]}}'
    async with RawServer(answer(body)) as server, session_at(server) as itwin:
        assert (await itwin.packages.get_package("P")).project_stage == "Beta"


# The way out


async def test_request_gives_the_decoded_json():
    async with RawServer(answer(b'{"a":[1]}')) as server, session_at(server) as itwin:
        assert await itwin.request("GET", "/x") == {"a": [1]}


async def test_request_gives_the_type_that_was_asked_for():
    class Thing(msgspec.Struct):
        a: int

    async with RawServer(answer(b'{"a":1}')) as server, session_at(server) as itwin:
        assert await itwin.request("GET", "/x", returns=Thing) == Thing(1)
        assert await itwin.request("GET", "/x", returns=dict[str, int]) == {"a": 1}


@pytest.mark.parametrize("empty", [answer(), answer(status="204 X"), answer(status="202 X")])
async def test_request_gives_none_for_an_empty_answer(empty):
    async with RawServer(empty) as server, session_at(server) as itwin:
        assert await itwin.request("DELETE", "/x") is None


async def test_request_raises_for_an_empty_answer_where_a_type_was_asked_for():
    async with RawServer(answer()) as server, session_at(server, retry=THREE) as itwin:
        with pytest.raises(DecodeError):
            await itwin.request("GET", "/x", returns=dict)


async def test_request_gives_bytes_as_they_are():
    async with RawServer(answer(b"<xml/>")) as server, session_at(server) as itwin:
        assert await itwin.request("GET", "/x", returns=bytes) == b"<xml/>"


async def test_request_sends_what_it_was_given():
    async with RawServer(answer(b"{}")) as server, session_at(server) as itwin:
        await itwin.request(
            "PATCH",
            "/a%2Fb/{c}?x=%7e&y",
            query={"$top": 5, "search": "a b&c", "flag": True, "none": None},
            body={"k": "é"},
            version="v2",
        )
        (got,) = server.requests
        assert got.method == "PATCH"
        path, _, query = got.target.partition("?")
        assert path == "/a%2Fb/{c}"
        assert sorted(query.split("&")) == sorted(
            ["x=%7e", "y", "$top=5", "search=a%20b%26c", "flag=true"]
        )
        assert got.body == '{"k":"é"}'.encode()
        assert got.headers["content-type"] == "application/json"
        assert got.headers["accept"] == "application/vnd.bentley.itwin-platform.v2+json"


@pytest.mark.parametrize("body", [None, {}, [], False, 0, ""])
async def test_request_sends_every_body_but_none(body):
    async with RawServer(answer(b"{}")) as server, session_at(server) as itwin:
        await itwin.request("POST", "/x", body=body)
        expected = b"" if body is None else msgspec.json.encode(body)
        assert server.requests[0].body == expected


@pytest.mark.parametrize("path", ["/x", "x"])
async def test_request_takes_an_absolute_url_of_the_base(path):
    async with RawServer(answer(b"{}")) as server, session_at(server) as itwin:
        await itwin.request("GET", f"{server.url}/x?y=1")
        assert server.requests[0].target == "/x?y=1"


@pytest.mark.parametrize(
    "path",
    [
        "https://evil.example/x",
        "//evil.example/x",
        "http://127.0.0.1/x",
        "https://127.0.0.1@evil.example/",
        "/a b",
        "/a\r\nX-Evil: 1",
        "/a\\b",
        "/é",
        "",
        "x/y",
        "/" + "a" * 9_000,
        "http://[::1",
    ],
    ids=lambda path: path[:30],
)
async def test_request_refuses_a_path_that_is_none_on_the_base(path):
    async with RawServer(answer(b"{}")) as server, session_at(server) as itwin:
        with pytest.raises(ValueError, match="path must be"):
            await itwin.request("GET", path)
        assert server.opened == 0


@pytest.mark.parametrize(
    ("arguments", "keywords", "error"),
    [
        (("get", "/x"), {}, ValueError),
        (("TRACE", "/x"), {}, ValueError),
        (("GET\r\nX: y", "/x"), {}, ValueError),
        ((None, "/x"), {}, (TypeError, ValueError)),
        (("GET", b"/x"), {}, TypeError),
        (("GET", "/x"), {"version": "1"}, ValueError),
        (("GET", "/x"), {"version": "v1\r\n"}, ValueError),
        (("GET", "/x"), {"version": 1}, TypeError),
        (("GET", "/x"), {"returns": 5}, TypeError),
        (("POST", "/x"), {"body": 1j}, TypeError),
        (("GET", "/x"), {"query": "a=b"}, TypeError),
        (("GET", "/x"), {"query": {"a": [1]}}, TypeError),
    ],
    ids=str,
)
async def test_request_checks_its_arguments_before_anything_is_sent(arguments, keywords, error):
    async with RawServer(answer(b"{}")) as server, session_at(server) as itwin:
        with pytest.raises(error) as caught:
            await itwin.request(*arguments, **keywords)
        assert len(str(caught.value).splitlines()) == 1
        assert server.opened == 0


async def test_request_goes_through_token_retries_and_errors(emulator, itwin):
    emulator.faults.add("get_primary_account", [Status(503)])
    account = await itwin.request("GET", "/itwins/myprimaryaccount")
    assert account["iTwin"]["class"] == "Account"
    with pytest.raises(NotFoundError, match="PackageNotFound"):
        await itwin.request("GET", "/edfs/packages/none")


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
