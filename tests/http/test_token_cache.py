"""Tokens: fetched once for all, renewed before their end, and after a 401."""

import asyncio

import msgspec
import pytest
from attempts import Tokens, refused, short_waits
from support import (
    PACKAGE,
    Clock,
    RawServer,
    answer,
    session_at,
    until,
)

from itwin_async import (
    DecodeError,
    ForbiddenError,
    ITwinSession,
    Limiter,
    LinkError,
    RateLimitError,
    Retry,
    ServerError,
    Token,
    TransportError,
    UnauthorizedError,
)
from itwin_async.emulator import Delay, Edit, Garbage, Reset, Status, Throttle
from itwin_async.limits import rate_limiter_of

__all__ = ["short_waits"]  # fixtures


OK = answer(PACKAGE)


THREE = Retry(attempts=3, base=0)


async def silent(connection) -> None:
    await connection.request()
    await connection.gone()


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
        assert provider.calls == 2


async def test_a_second_401_is_final():
    provider = Tokens()
    async with RawServer(refused(401)) as server:
        async with ITwinSession(provider, base_url=server.url) as itwin:
            with pytest.raises(UnauthorizedError):
                await itwin.packages.get_package("P")
        assert len(server.requests) == 2
        assert provider.calls == 2


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
        assert provider.calls == 1


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
        if provider.calls:
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
    assert "renewed before it expires" in caplog.text


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
        RawServer(silent) as other_server,
        session_at(other_server, limiter=limiter) as busy,
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
        assert rate_limiter_of(itwin.limiter).paused_for() == 0
    assert emulator.count("token") == 3


async def test_a_token_endpoint_that_throttles_for_too_long_is_an_error_at_once(emulator):
    emulator.faults.add("token", Throttle(9_999), times=None)
    async with ITwinSession(emulator.credentials, base_url=emulator.url) as itwin:
        async with asyncio.timeout(10):
            with pytest.raises(RateLimitError) as caught:
                await itwin.itwins.get_primary_account()
        assert caught.value.retry_after == 9_999
    assert emulator.count("token") == 1


async def test_a_redirect_of_a_token_endpoint_is_not_followed(emulator):
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


@pytest.mark.parametrize("name", ["get_token", "get_package"])
async def test_a_provider_that_uses_its_own_session_is_told_instead_of_waiting_for_itself(name):
    async def provide() -> str:
        if name == "get_token":
            return (await itwin.get_token()).value
        return str(await itwin.packages.get_package("P"))

    async with RawServer(OK) as server:
        async with ITwinSession(provide, base_url=server.url) as itwin:
            with pytest.raises(RuntimeError, match="must not use the session that waits for it"):
                await itwin.get_token()
        assert not server.requests


async def test_a_provider_that_is_cancelled_is_an_error_of_who_waits_and_no_cancellation():
    async def provide() -> str:
        raise asyncio.CancelledError

    async with RawServer(OK) as server, ITwinSession(provide, base_url=server.url) as itwin:
        with pytest.raises(RuntimeError, match="the token provider was cancelled while it fetched"):
            await itwin.get_token()


async def test_a_token_that_is_replaced_while_another_is_fetched_stays():
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def provide() -> str:
        begun.set()
        await go_on.wait()
        return "of-the-provider"

    async with RawServer(OK) as server, ITwinSession(provide, base_url=server.url) as itwin:
        waiting = asyncio.create_task(itwin.get_token())
        await begun.wait()
        itwin._executor.tokens.replace(Token("of-who-signed-in"))
        go_on.set()
        assert (await waiting).value == "of-who-signed-in"
        assert (await itwin.get_token()).value == "of-who-signed-in"
