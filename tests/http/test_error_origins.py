"""Whose error it is: a provider's own, a copy for each waiter, the host that it comes from."""

import asyncio
import gc
import traceback
import weakref

import aiohttp
import pytest
from raw_pages import IMODEL, PageServer, entries, page
from support import Clock, Connection, RawServer, answer, session_at, until

from itwin_async import (
    ClientCredentials,
    ITwinError,
    ITwinSession,
    LinkError,
    RateLimitError,
    Retry,
    ServerError,
    Token,
    TransportError,
    merged,
)
from itwin_async.emulator import Emulator, Status, Throttle
from itwin_async.errors import own_copy

QUICK = Retry(2, base=0.001, cap=0.002)


class VaultError(Exception):
    """A provider's own error, which nobody else can construct."""

    def __init__(self, *, vault: str, lease: int) -> None:
        super().__init__(f"vault {vault} is sealed")
        self.vault = vault
        self.lease = lease


class Slotted(Exception):  # noqa: N818 - a name is all it needs
    __slots__ = ("code",)


async def sealed() -> str:
    await asyncio.sleep(0)
    raise VaultError(vault="north", lease=7)


def session(provider, **options) -> ITwinSession:
    options.setdefault("base_url", "http://127.0.0.1:9")
    return ITwinSession(provider, retry=QUICK, **options)


# A provider's own exception


@pytest.mark.parametrize("pages", [False, True])
async def test_a_list_raises_what_its_provider_raised_and_then_says_so(pages):
    async with session(sealed) as itwin:
        pager = itwin.imodels.list_changesets(IMODEL)
        items = pager.pages() if pages else aiter(pager)
        with pytest.raises(VaultError, match="vault north is sealed") as caught:
            await anext(items)
        assert (caught.value.vault, caught.value.lease) == ("north", 7)
        for _ in range(2):
            with pytest.raises(ITwinError, match=r"ended with VaultError: .*resume") as again:
                await anext(items)
            assert len(traceback.extract_tb(again.value.__traceback__)) < 5


@pytest.mark.parametrize("base", [VaultError, ServerError])
async def test_a_list_that_ended_with_an_error_keeps_no_frame_of_it(base):
    class Big:
        pass

    async def failing() -> str:
        big = Big()
        held.append(weakref.ref(big))
        if base is VaultError:
            raise VaultError(vault="north", lease=7)
        raise ServerError("no")

    held: list[weakref.ref[Big]] = []
    async with session(failing) as itwin:
        items = aiter(itwin.imodels.list_changesets(IMODEL))
        with pytest.raises(base):
            await anext(items)
        gc.collect()
        assert held[0]() is None
        with pytest.raises(ITwinError):
            await anext(items)


async def test_a_list_ends_the_same_way_each_time_with_an_object_of_its_own():
    async with (
        RawServer(answer(b"", status="503 Said")) as server,
        session_at(server, retry=QUICK) as itwin,
    ):
        items = aiter(itwin.imodels.list_changesets(IMODEL))
        errors = []
        for _ in range(4):
            with pytest.raises(ServerError) as caught:
                await anext(items)
            errors.append(caught.value)
        assert len({id(error) for error in errors}) == 4
        assert len({str(error) for error in errors}) == 1
        depths = [len(traceback.extract_tb(error.__traceback__)) for error in errors[1:]]
        assert len(set(depths)) == 1


async def test_a_merged_stream_raises_a_foreign_error_once_and_then_says_so():
    async with (
        session(sealed) as itwin,
        merged([itwin.imodels.list_changesets(IMODEL)]) as items,
    ):
        with pytest.raises(VaultError):
            await anext(items)
        for _ in range(2):
            with pytest.raises(ITwinError, match="this stream ended with VaultError") as again:
                await anext(items)
            assert len(traceback.extract_tb(again.value.__traceback__)) == 2


async def test_a_link_that_is_refused_is_no_growing_error():
    async def foreign(call) -> None:
        await call.body(page(entries(0, 2), "https://elsewhere.example/next"))

    async with PageServer(foreign) as server, session_at(server) as itwin:
        items = aiter(itwin.imodels.list_extended_data(IMODEL))
        for _ in range(2):
            await anext(items)
        cursors = {items.cursor for _ in range(20)}
        assert len(cursors) == 1
        assert items._reader._next.__traceback__ is None
        with pytest.raises(LinkError) as first:
            await anext(items)
        with pytest.raises(LinkError) as second:
            await anext(items)
        assert first.value is not second.value


async def test_a_list_that_is_closed_while_it_is_waited_for_raises_two_objects():
    async with RawServer(answer(b"{}")) as server, session_at(server) as itwin:
        hold = asyncio.Event()

        async def waits(body):
            await hold.wait()

        items = aiter(itwin.imodels.list_changesets(IMODEL))
        itwin._executor.execute = lambda *_: waits(None)
        waiter = asyncio.ensure_future(anext(items))
        await asyncio.sleep(0)
        await items.aclose()
        with pytest.raises(RuntimeError, match="was closed") as first:
            await waiter
        with pytest.raises(RuntimeError, match="was closed") as second:
            await anext(items)
        assert first.value is not second.value
        assert second.value.__context__ is None


# One renewal, many waiters


async def each_error(itwin, count: int = 10) -> list[BaseException]:
    calls = (itwin.request("GET", f"/x/{number}") for number in range(count))
    return await asyncio.gather(*calls, return_exceptions=True)


async def test_each_waiter_of_a_renewal_gets_an_object_of_its_own_of_the_providers_type():
    async with session(sealed) as itwin:
        errors = await each_error(itwin)
    assert {type(error) for error in errors} == {VaultError}
    assert len({id(error) for error in errors}) == 10
    assert {(str(error), error.vault, error.lease) for error in errors} == {
        ("vault north is sealed", "north", 7)
    }
    for error in errors:  # it still says where it comes from, once
        names = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
        assert names.count("sealed") == 1


async def test_each_waiter_of_a_renewal_that_the_sign_in_host_refused_gets_its_own(emulator):
    emulator.faults.add("token", Status(400), times=None)
    async with ITwinSession(emulator.credentials, base_url=emulator.url) as itwin:
        errors = await each_error(itwin)
    assert len({id(error) for error in errors}) == 10
    assert {error.operation for error in errors} == {"token"}
    errors[0].args = ()
    errors[0].message = "changed"
    assert "changed" not in str(errors[1])


async def test_an_error_that_cannot_be_copied_is_raised_as_it_came():
    async def provider() -> str:
        await asyncio.sleep(0)
        raise FileNotFoundError(2, "No such file", "token.txt")

    async with session(provider) as itwin:
        errors = await each_error(itwin)
    assert {type(error) for error in errors} == {FileNotFoundError}
    assert {error.filename for error in errors} == {"token.txt"}
    names = [frame.name for frame in traceback.extract_tb(errors[0].__traceback__)]
    assert names.count("provider") == 1  # not once more for each waiter


def test_a_copy_is_equal_and_runs_no_constructor():
    error = VaultError(vault="north", lease=7)
    error.add_note("first")
    copied = own_copy(error)
    copied.add_note("second")
    assert (type(copied), copied.args, copied.vault) == (VaultError, error.args, "north")
    assert error.__notes__ == ["first"]
    error = ServerError("no")
    error.status, error.retry_after = 503, 2.0
    assert vars(own_copy(error)) == vars(error)


@pytest.mark.parametrize(
    "error",
    [OSError(2, "x", "y"), Slotted(), ExceptionGroup("x", [ValueError()]), StopIteration(1)],
)
def test_an_error_with_data_outside_of_its_dict_is_not_copied(error):
    assert own_copy(error) is error


# The right origin


@pytest.mark.slow
async def test_a_429_of_the_sign_in_host_after_one_of_the_platform_is_the_sign_in_hosts(emulator):
    emulator.faults.add("get_primary_account", Throttle(0))
    retry = Retry(base=0.001, cap=0.001)
    async with ITwinSession(emulator.credentials, base_url=emulator.url, retry=retry) as itwin:
        await itwin.itwins.get_primary_account()
        emulator.faults.add("get_primary_account", Status(401), times=1)
        emulator.faults.add("token", Throttle(9_999), times=None)
        with pytest.raises(RateLimitError, match=r"the sign-in host 127\.0\.0\.1") as caught:
            await itwin.itwins.get_primary_account()
    assert (caught.value.operation, caught.value.retry_after) == ("token", 9_999)


async def test_a_429_of_the_sign_in_host_in_the_call_that_the_platform_throttled():
    tokens = iter([Token("first-token", 0.05)])

    class Provider:
        async def get_token(self, sign_in) -> Token:
            for token in tokens:
                return token
            error = RateLimitError("the sign-in host refused")
            error.status, error.retry_after = 429, 500.0
            error.operation = "token"
            raise error

    async with (
        RawServer(answer(b"", "Retry-After: 1", status="429 Said")) as server,
        ITwinSession(Provider(), base_url=server.url) as itwin,
    ):
        with Clock() as clock:
            waiter = asyncio.ensure_future(itwin.request("GET", "/x"))
            await until(lambda: itwin.stats.throttled)
            clock.forward(5.0)
            with pytest.raises(RateLimitError, match="the sign-in host refused") as caught:
                await waiter
    assert (caught.value.operation, caught.value.retry_after) == ("token", 500.0)


async def test_an_unknown_outcome_stays_unknown_when_no_token_can_be_had():
    """The answer to a PUT was lost, and its second attempt ends at the sign-in host."""
    calls = 0

    async def provider() -> Token:
        nonlocal calls
        calls += 1
        await asyncio.sleep(0)
        if calls == 1:
            return Token("first-token", 0.05)
        raise TransportError("no sign-in host", "refused")

    async def lost(connection: Connection) -> None:
        await connection.request()
        connection.reset()

    async with RawServer(lost) as server:
        retry = Retry(base=0.2)
        async with ITwinSession(provider, base_url=server.url, retry=retry) as itwin:
            with pytest.raises(TransportError, match="no sign-in host") as caught:
                await itwin.request("PUT", "/x")
    assert caught.value.outcome_unknown


class StaticProvider:
    async def get_token(self, _sign_in) -> Token:
        return Token("token-of-the-test")


async def proxy_error(proxy: str, base_url: str = "https://api.bentley.com") -> TransportError:
    async with (
        aiohttp.ClientSession(proxy=proxy) as http,
        session(StaticProvider(), base_url=base_url, http=http) as itwin,
    ):
        with pytest.raises(TransportError) as caught:
            await itwin.request("POST", "/x")
    return caught.value


@pytest.mark.parametrize("base", ["https://api.bentley.com", "http://127.0.0.1:9"])
async def test_a_proxy_that_is_down_is_named_as_the_proxy(base, unused_tcp_port):
    error = await proxy_error(f"http://127.0.0.1:{unused_tcp_port}", base)
    assert str(error) == f"the proxy 127.0.0.1:{unused_tcp_port} refused the connection"
    assert (error.reason, error.outcome_unknown) == ("refused", False)


async def test_a_proxy_whose_name_does_not_resolve_is_named_as_the_proxy(monkeypatch):
    async def unknown(*_args, **_options):
        raise OSError(-2, "Name or service not known")

    monkeypatch.setattr(aiohttp.TCPConnector, "_resolve_host", unknown)
    error = await proxy_error("http://proxy.invalid:3128")
    assert "the proxy proxy.invalid:3128" in str(error)
    assert "api.bentley.com" not in str(error)
    assert error.reason == "dns"


async def test_a_host_whose_name_does_not_resolve_is_no_proxy(monkeypatch):
    async def unknown(*_args, **_options):
        raise OSError(-2, "Name or service not known")

    monkeypatch.setattr(aiohttp.TCPConnector, "_resolve_host", unknown)
    async with session(StaticProvider(), base_url="https://api.bentley.com") as itwin:
        with pytest.raises(TransportError, match=r"api\.bentley\.com") as caught:
            await itwin.request("GET", "/x")
    assert "proxy" not in str(caught.value)


@pytest.mark.parametrize("base", ["https://api.bentley.com", "http://127.0.0.1:9"])
async def test_a_407_is_the_proxys_and_final(base):
    wants = answer(b"", status="407 Proxy Authentication Required")
    async with RawServer(wants) as server:
        error = await proxy_error(server.url, base)
        assert len(server.requests) == 1
    assert "the proxy refused" in str(error)
    assert "407" in str(error)
    assert (error.reason, error.outcome_unknown) == ("proxy", False)


async def test_a_proxy_that_cannot_reach_the_host_says_so_and_is_asked_again():
    async with RawServer(answer(b"", status="502 Bad Gateway")) as server:
        error = await proxy_error(server.url)
        assert len(server.requests) == 2
    assert str(error) == "api.bentley.com cannot be reached: the proxy answered 502"
    assert (error.reason, error.outcome_unknown) == ("unreachable", False)


async def test_a_407_of_a_sign_in_host_is_the_proxys():
    credentials = ClientCredentials("id", "secret-1", token_url="http://127.0.0.1:9/token")
    async with (
        RawServer(answer(b"", status="407 Said")) as server,
        aiohttp.ClientSession(proxy=server.url) as http,
        session(credentials, http=http) as itwin,
    ):
        with pytest.raises(TransportError, match="the proxy refused") as caught:
            await itwin.request("GET", "/x")
    assert caught.value.operation == "token"


# One rule of limits for providers of every kind


class Silent:
    async def get_token(self, _sign_in) -> Token:
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    async def __call__(self) -> Token:
        return await self.get_token(None)


@pytest.mark.parametrize("provider", [Silent(), Silent().__call__], ids=["object", "callable"])
async def test_a_provider_that_never_answers_ends_at_the_timeout(provider):
    async with session(provider, timeout=0.05) as itwin:
        errors = await each_error(itwin, 3)
    assert {(type(error), error.reason) for error in errors} == {(TransportError, "timeout")}
    assert "the token provider gave nothing within 0.05 s" in str(errors[0])


@pytest.mark.parametrize("as_object", [True, False])
async def test_a_timeout_of_a_providers_own_is_its_own(as_object):
    class Impatient:
        async def get_token(self, _sign_in) -> Token:
            raise TimeoutError("the vault took 3 s")

    async def impatient() -> Token:
        raise TimeoutError("the vault took 3 s")

    async with session(Impatient() if as_object else impatient) as itwin:
        with pytest.raises(TimeoutError, match="the vault took 3 s"):
            await itwin.request("GET", "/x")


async def test_the_requests_of_a_provider_have_limits_of_their_own(emulator: Emulator):
    """Three throttles take longer than ``timeout``, which is for the provider's own time."""
    emulator.faults.add("token", Throttle("soon"), times=3)
    itwin = ITwinSession(
        emulator.credentials, base_url=emulator.url, timeout=5.0, retry=Retry(base=0.001)
    )
    async with itwin:
        with Clock() as clock:
            waiter = asyncio.ensure_future(itwin.itwins.get_primary_account())
            for asked in (1, 2, 3):
                await until(lambda asked=asked: itwin.stats.throttled == asked)
                clock.forward(20.0)
            await waiter


async def test_a_provider_may_not_answer_after_its_request_either(emulator):
    class Half:
        async def get_token(self, sign_in) -> Token:
            await sign_in.post(
                emulator.credentials.endpoint(sign_in.base_url),
                {
                    "grant_type": "client_credentials",
                    "client_id": emulator.credentials.client_id,
                    "client_secret": emulator.credentials.client_secret,
                    "scope": "itwin-platform",
                },
            )
            await asyncio.Event().wait()
            raise AssertionError("unreachable")

    async with ITwinSession(Half(), base_url=emulator.url, timeout=0.2) as itwin:
        with pytest.raises(TransportError, match="gave nothing within"):
            await itwin.itwins.get_primary_account()


async def test_a_token_endpoint_that_throttles_without_a_time_is_asked_less_and_less_often(
    monkeypatch,
):
    monkeypatch.setattr("itwin_async._http.host_pauses.DEFAULT_RETRY_AFTER", 0.001)
    async with RawServer(answer(b"", status="429 Said")) as server:
        credentials = ClientCredentials("id", "secret-1", token_url=f"{server.url}/token")
        retry = Retry(base=0.004, cap=0.064, max_throttled=0.4)
        async with ITwinSession(credentials, base_url=server.url, retry=retry) as itwin:
            with pytest.raises(RateLimitError, match="the sign-in host"):
                await itwin.request("GET", "/x")
        # 4, 8, 16, 32, 64, 64, ... ms, each at least halved by chance: not 400 of the floor.
        assert 7 <= len(server.requests) <= 16


async def test_a_sign_in_host_that_asked_for_a_long_pause_is_not_asked_by_the_next_call(emulator):
    emulator.faults.add("token", Throttle(9_999), times=None)
    async with ITwinSession(emulator.credentials, base_url=emulator.url) as itwin:
        for words in ("the sign-in host", "asked for a pause"):
            with pytest.raises(RateLimitError, match=words) as caught:
                await itwin.itwins.get_primary_account()
            assert caught.value.operation == "token"
            assert 9_000 < caught.value.retry_after <= 9_999
    assert emulator.count("token") == 1
