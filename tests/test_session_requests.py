"""What every request of a session carries, and what is counted and reported of it."""

import asyncio
import logging
import uuid

import pytest
from support import PACKAGE, RawServer, answer, session_at

from itwin_async import (
    ClientCredentials,
    ITwinError,
    ITwinSession,
    NotFoundError,
    OperationFinished,
    RateLimited,
    ResponseReceived,
    Retry,
    RetryScheduled,
    StaticToken,
    Stats,
    Token,
    TokenRenewed,
    TransportError,
    __version__,
)
from itwin_async.emulator import Status

OK = answer(PACKAGE)


PROVIDER = StaticToken("t")


# What every request carries, and what none does


async def test_a_request_carries_its_token_version_and_user_agent():
    async with RawServer(OK) as server, session_at(server) as itwin:
        await itwin.packages.get_package("P")
        headers = server.requests[0].headers
        assert headers["authorization"] == "Bearer token-of-the-test"
        assert headers["accept"] == "application/vnd.bentley.itwin-platform.v1+json"
        assert headers["user-agent"] == f"itwin-async/{__version__}"


async def test_every_attempt_has_a_correlation_id_of_its_own():
    answers = (answer(status="500 No"), OK)
    async with RawServer(*answers) as server, session_at(server, retry=Retry(base=0)) as itwin:
        await itwin.packages.get_package("P")
        ids = [uuid.UUID(got.headers["x-correlation-id"]) for got in server.requests]
        assert len(set(ids)) == 2


async def test_the_request_id_of_an_error_is_the_one_the_platform_gave():
    gone = answer(b"{}", "X-Correlation-Id: theirs", status="404 No")
    async with RawServer(gone) as server, session_at(server) as itwin:
        with pytest.raises(NotFoundError) as caught:
            await itwin.packages.get_package("P")
        assert caught.value.request_id == "theirs"


@pytest.mark.parametrize("status", ["404 No", "200 OK"])
async def test_the_request_id_of_an_error_is_ours_where_the_platform_gave_none(status):
    async with (
        RawServer(answer(b"<", status=status)) as server,
        session_at(server, retry=Retry(attempts=1)) as itwin,
    ):
        with pytest.raises(ITwinError) as caught:
            await itwin.packages.get_package("P")
        assert caught.value.request_id == server.requests[0].headers["x-correlation-id"]


async def test_an_error_without_an_answer_has_the_request_id_that_was_sent():
    async def reset(connection) -> None:
        await connection.request()
        connection.reset()

    async with RawServer(reset) as server, session_at(server, retry=Retry(attempts=1)) as itwin:
        with pytest.raises(TransportError) as caught:
            await itwin.packages.get_package("P")
        assert caught.value.request_id == server.requests[0].headers["x-correlation-id"]


async def test_cookies_of_the_server_are_ignored():
    answers = answer(PACKAGE, "Set-Cookie: tenant=one; Path=/")
    async with RawServer(answers) as server:
        # A cookie jar ignores addresses anyway, but not names.
        async with ITwinSession(PROVIDER, base_url=f"http://localhost:{server.port}") as itwin:
            for _ in range(2):
                await itwin.packages.get_package("P")
        assert len(server.requests) == 2
        assert not any("cookie" in got.headers for got in server.requests)


async def test_netrc_and_proxy_variables_are_ignored(monkeypatch, tmp_path):
    netrc = tmp_path / "netrc"
    netrc.write_text("default login user password hunter2\n")
    monkeypatch.setenv("NETRC", str(netrc))
    token = answer(b'{"access_token":"fresh","expires_in":3600}')
    async with RawServer(OK) as proxy, RawServer(token, OK) as server:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy"):
            monkeypatch.setenv(name, proxy.url)
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        credentials = ClientCredentials("i", "s", token_url=f"{server.url}/connect/token")
        async with ITwinSession(credentials, base_url=server.url) as itwin:
            await itwin.packages.get_package("P")
        assert proxy.opened == 0
        assert "authorization" not in server.requests[0].headers
        assert server.requests[1].headers["authorization"] == "Bearer fresh"


# Instrumentation


@pytest.mark.slow
async def test_stats_count_what_happened():
    async def provider() -> Token:
        return Token("t", 3600)

    answers = (answer(status="500 No"), answer(b"", "Retry-After: 0", status="429 Slow"), OK)
    async with (
        RawServer(*answers) as server,
        ITwinSession(provider, base_url=server.url, retry=Retry(base=0.001)) as itwin,
    ):
        before = itwin.stats
        await itwin.packages.get_package("P")
        assert itwin.stats == Stats(
            requests=3, retries=1, throttled=1, pauses=1, renewals=1, bytes_received=len(PACKAGE)
        )
        assert before == Stats()


async def test_stats_are_frozen():
    with pytest.raises(AttributeError):
        ITwinSession(PROVIDER).stats.requests = 7


@pytest.mark.slow
async def test_events_tell_the_same_as_the_counts():
    events = []
    answers = (answer(status="500 No"), answer(b"", "Retry-After: 0", status="429 Slow"), OK)
    async with (
        RawServer(*answers) as server,
        session_at(server, on_event=events.append, retry=Retry(base=0.001)) as itwin,
    ):
        await itwin.packages.get_package("P")
        kinds = [type(event) for event in events]
        assert kinds == [
            TokenRenewed,
            ResponseReceived,
            RetryScheduled,
            ResponseReceived,
            RateLimited,
            ResponseReceived,
            OperationFinished,
        ]
        sent = [event for event in events if isinstance(event, ResponseReceived)]
        assert [event.status for event in sent] == [500, 429, 200]
        ids = [got.headers["x-correlation-id"] for got in server.requests]
        assert [event.request_id for event in sent] == ids
        assert {event.operation for event in sent} == {"GET /edfs/packages/{unique_name}"}


@pytest.mark.parametrize("error", [ZeroDivisionError, asyncio.CancelledError])
async def test_a_handler_that_raises_disturbs_nothing(caplog, error):
    def handler(event) -> None:
        raise error

    async with RawServer(OK) as server, session_at(server, on_event=handler) as itwin:
        assert (await itwin.packages.get_package("P")).unique_name == "P"
    assert "on_event failed" in caplog.text


async def test_a_handler_that_raises_is_logged_once_for_each_type_of_error(caplog):
    seen: list[object] = []

    def handler(event) -> None:
        seen.append(event)
        raise (ZeroDivisionError if len(seen) % 2 else LookupError)

    async with RawServer(OK) as server, session_at(server, on_event=handler) as itwin:
        for _ in range(5):
            await itwin.packages.get_package("P")
        view = itwin.with_options(timeout=9)
        await view.packages.get_package("P")
    assert len(seen) >= 12
    logged = [record for record in caplog.records if record.exc_info is not None]
    kinds = [record.exc_info[0] for record in logged]
    assert kinds == [ZeroDivisionError, LookupError]
    assert "no further LookupError of it is logged" in caplog.text


async def test_there_is_one_logger(emulator, itwin, caplog):
    caplog.set_level(logging.DEBUG)
    emulator.faults.add("get_primary_account", Status(500))
    await itwin.itwins.get_primary_account()
    ours = {r.name for r in caplog.records if r.name.startswith("itwin")}
    assert ours == {"itwin_async"}


async def test_the_repr_says_where_and_whether_it_is_open(itwin, emulator):
    assert repr(itwin) == f"ITwinSession({emulator.url}, open)"
    await itwin.aclose()
    assert repr(itwin) == f"ITwinSession({emulator.url}, closed)"
