"""A bad network between a session and the platform: nothing lost, nothing twice, nothing left."""

import asyncio
import itertools
from collections.abc import AsyncIterator

import pytest
from proxy import Line, Proxy
from raw_pages import IMODEL, QUICK, collect, settled
from support import until

from itwin_async import ITwinSession, Limiter, Retry, StaticToken, TransportError
from itwin_async.emulator import Emulator
from itwin_async.export import export_extended_data

LIST = "list_extended_data"
ALL = list(range(1, 201))


@pytest.fixture
async def platform() -> AsyncIterator[Emulator]:
    async with Emulator(imodels=1, changesets=200, payload_bytes=2_000) as running:
        yield running


@pytest.fixture
async def proxy(platform: Emulator) -> AsyncIterator[Proxy]:
    async with Proxy(platform.url) as running:
        yield running


def through(proxy: Proxy, platform: Emulator, **options) -> ITwinSession:
    """A session that reaches API and token endpoint through the proxy alone."""
    options.setdefault("retry", QUICK)
    credentials = platform.credentials
    provider = type(credentials)(
        credentials.client_id, credentials.client_secret, token_url=f"{proxy.url}/connect/token"
    )
    return ITwinSession(provider, base_url=proxy.url, **options)


def entries(itwin: ITwinSession, ahead: int = 0, page_size: int = 20):
    """The list of all 200."""
    return itwin.imodels.list_extended_data(IMODEL, page_size=page_size).ahead(ahead)


LINES = {
    "a long way": Line(latency=0.01),
    "a thin pipe": Line(rate=4_000_000.0, slice=1_400),
    "small slices": Line(slice=7),
    "slices and a way": Line(slice=900, latency=0.0002),
}


@pytest.mark.slow
@pytest.mark.parametrize("ahead", [0, 4])
@pytest.mark.parametrize("line", LINES.values(), ids=LINES)
async def test_a_poor_line_delivers_everything_at_the_first_attempt(platform, proxy, line, ahead):
    proxy.line = line
    async with through(proxy, platform) as itwin:
        assert await collect(entries(itwin, ahead)) == ALL
        assert itwin.stats.retries == 0


@pytest.mark.parametrize("ahead", [0, 4])
@pytest.mark.parametrize("end", ["FIN", "RST"])
async def test_every_connection_cut_after_so_many_bytes_loses_and_doubles_nothing(
    platform, proxy, end, ahead
):
    async with through(proxy, platform, retry=Retry(9, base=0.001)) as itwin:
        await itwin.itwins.get_primary_account()
        proxy.drop()
        with proxy.being(cut_after=130_000, end=end):  # a page is 57,000
            assert await collect(entries(itwin, ahead)) == ALL
        assert itwin.stats.retries
        await settled(itwin.limiter)


@pytest.mark.parametrize("at", [0, 1, 100, 400, 5_000, 56_000])
@pytest.mark.parametrize("end", ["FIN", "RST"])
async def test_an_answer_cut_anywhere_is_asked_for_again(platform, proxy, end, at):
    """Before the status line, within the head, within the body."""
    async with through(proxy, platform) as itwin:
        items = aiter(entries(itwin))
        got = [(await anext(items)).changeset_index for _ in range(20)]
        proxy.drop()
        await until(lambda: proxy.open == 0)
        proxy.line = Line(cut_after=at, end=end)
        rest = asyncio.create_task(collect(items))
        await until(lambda: itwin.stats.retries)
        proxy.line = Line()
        assert got + await rest == ALL


@pytest.mark.parametrize("end", ["FIN", "RST"])
async def test_idle_connections_that_were_ended_are_replaced_within_the_attempts(
    platform, proxy, end
):
    async with through(proxy, platform) as itwin:
        await asyncio.gather(*(itwin.imodels.get_imodel(IMODEL) for _ in range(3)))
        proxy.drop(end)
        assert await collect(entries(itwin)) == ALL
        assert itwin.stats.retries <= 3
        await until(lambda: proxy.open == 1)


@pytest.mark.slow
async def test_a_black_hole_ends_at_the_timeout_and_says_so(platform, proxy):
    async with through(proxy, platform, timeout=0.3, retry=Retry(2, base=0.001)) as itwin:
        await itwin.itwins.get_primary_account()
        with proxy.being(black_hole=True), pytest.raises(TransportError) as caught:
            await itwin.itwins.get_primary_account()
        assert caught.value.reason == "timeout"
        assert "127.0.0.1" in str(caught.value)
        assert (itwin.stats.requests, itwin.stats.retries) == (3, 1)
        await until(lambda: proxy.open == 0)  # the hole is not asked a third time
        assert (await itwin.itwins.get_primary_account()).id


@pytest.mark.slow
@pytest.mark.parametrize("ahead", [0, 4])
async def test_a_black_hole_in_the_middle_of_a_list_is_got_over(platform, proxy, ahead):
    async with through(proxy, platform, timeout=0.2) as itwin:
        items = aiter(entries(itwin, ahead))
        got = [(await anext(items)).changeset_index for _ in range(30)]
        with proxy.being(black_hole=True):
            rest = asyncio.create_task(collect(items))
            await until(lambda: itwin.stats.retries or rest.done())
        assert got + await rest == ALL


def refused_at_first(proxy: Proxy, platform: Emulator, **options) -> ITwinSession:
    """A session without any connection yet."""
    token = StaticToken(platform.issue_token())
    return ITwinSession(token, base_url=proxy.url, **options)


@pytest.mark.parametrize("write", [False, True])
async def test_a_refused_connection_is_tried_again_until_it_is_accepted(platform, proxy, write):
    await proxy.refuse()
    async with (
        refused_at_first(proxy, platform, retry=Retry(50, base=0.005, cap=0.01)) as itwin,
        refused_at_first(platform, platform) as beside,
    ):
        account = (await beside.itwins.get_primary_account()).id
        call = asyncio.create_task(
            itwin.extensions.create_extension("New", account)
            if write
            else itwin.imodels.get_imodel(IMODEL)
        )
        await until(lambda: itwin.stats.retries >= 2 or call.done())
        await proxy.listen()
        await call
    assert platform.count("create_extension") == write


async def test_a_refusal_for_good_is_told_after_the_attempts(platform, proxy):
    await proxy.refuse()
    async with refused_at_first(proxy, platform, retry=Retry(3, base=0.001)) as itwin:
        with pytest.raises(TransportError, match="refused") as caught:
            await itwin.itwins.get_primary_account()
        assert caught.value.reason == "refused"
        assert itwin.stats.requests == 3


async def test_a_write_whose_response_was_lost_has_an_unknown_outcome(platform, proxy):
    async with through(proxy, platform) as itwin:
        account = (await itwin.itwins.get_primary_account()).id
        with proxy.being(cut_after=0, end="RST"), pytest.raises(TransportError) as caught:
            await itwin.extensions.create_extension("Lost", account)
        assert caught.value.outcome_unknown
    assert platform.count("create_extension") == 1


async def test_a_slow_line_is_no_timeout_as_long_as_each_wait_is_short_enough(platform, proxy):
    proxy.line = Line(rate=2_000_000.0, slice=2_000)  # a page of 570 kB takes 0.3 s
    async with through(proxy, platform, timeout=5.0) as itwin:
        assert await collect(entries(itwin, page_size=200)) == ALL
        assert itwin.stats.retries == 0


@pytest.mark.slow
async def test_sixty_lists_over_a_line_that_breaks_all_the_time(platform, proxy):
    limiter = Limiter(8)
    async with through(
        proxy, platform, limiter=limiter, retry=Retry(20, base=0.001, cap=0.01)
    ) as itwin:
        await itwin.itwins.get_primary_account()
        ends = itertools.cycle(["FIN", "RST"])

        async def breaker() -> None:
            broken_at = 0
            while True:
                await asyncio.sleep(0.002)
                if len(platform.requests) >= broken_at + 40:  # however fast this machine is
                    broken_at = len(platform.requests)
                    proxy.drop(next(ends))

        breaking = asyncio.create_task(breaker())
        lists = [collect(entries(itwin, page_size=100)) for _ in range(60)]
        try:
            got = await asyncio.gather(*lists)
        finally:
            breaking.cancel()
        assert got == [ALL] * 60
        assert itwin.stats.retries
        await settled(limiter)


THIN = Line(rate=300_000.0, slice=2_000)  # a page of 285 kB takes about a second
SHORT = 0.5  # seconds of timeout: the time between two pieces, on a busy machine too


@pytest.mark.slow
async def test_a_page_that_takes_longer_than_the_timeout_arrives_at_the_first_attempt(
    platform, proxy
):
    async with through(proxy, platform, timeout=SHORT, retry=Retry(1)) as itwin:
        await itwin.itwins.get_primary_account()
        with proxy.being(rate=THIN.rate, slice=THIN.slice):
            assert await collect(entries(itwin, page_size=100)) == ALL
        assert itwin.stats.retries == 0


@pytest.mark.slow
async def test_an_export_over_a_slow_line_is_finished(platform, proxy, tmp_path):
    output = tmp_path / "changes.jsonl"
    async with through(proxy, platform, timeout=SHORT, retry=Retry(1)) as itwin:
        await itwin.itwins.get_primary_account()
        with proxy.being(rate=THIN.rate, slice=THIN.slice):
            done = await export_extended_data(itwin, [IMODEL], output)
    assert done.rows == len(ALL)
    assert len(output.read_bytes().splitlines()) == len(ALL)
