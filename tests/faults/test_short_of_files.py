"""A process that has no file left to open: each call ends in an error of the library's own."""

import asyncio

from support import PACKAGE, RawServer, answer, run_script

SHORT = """
import asyncio, resource, sys
from itwin_async import ITwinError, ITwinSession, Limiter, Retry, StaticToken

async def main(url):
    itwin = ITwinSession(
        StaticToken("t"), base_url=url, limiter=Limiter(100), retry=Retry(attempts=2, base=0.001)
    )
    calls = [itwin.packages.get_package("P") for _ in range(60)]
    ended = await asyncio.gather(*calls, return_exceptions=True)
    failed = [error for error in ended if isinstance(error, BaseException)]
    assert 0 < len(failed) < 60, len(failed)
    foreign = [repr(error) for error in failed if not isinstance(error, ITwinError)]
    assert not foreign, foreign
    assert (await itwin.packages.get_package("P")).unique_name == "P"
    await itwin.aclose()

resource.setrlimit(resource.RLIMIT_NOFILE, (48, 48))
asyncio.run(main(sys.argv[1]))
"""

# What is imported first where something fails may find no file left to be read from.
LATE = """
import asyncio, sys
from itwin_async import ClientCredentials, ITwinSession, Retry, StaticToken, merged

QUICK = Retry(attempts=2, base=0.001, max_retry_after=0.01)

async def call(itwin):
    await itwin.packages.get_package("P")

async def lists(itwin):
    async with merged([itwin.imodels.list_extended_data("i").ahead(2)]) as items:
        async for item in items:
            item.data

async def download(itwin):
    await itwin.extensions.download_version("x", "1.0.0", "nowhere")

async def fails(use, base, provider=StaticToken("t")):
    async with ITwinSession(provider, base_url=base, retry=QUICK) as itwin:
        try:
            await use(itwin)
        except Exception:
            pass

async def main(url):
    async with ITwinSession(StaticToken("t"), base_url=url) as itwin:
        itwin.imodels, itwin.packages, itwin.extensions  # imported at their first use: adr/0009
        before = set(sys.modules)
    for _ in range(14):
        await fails(call, url)
        await fails(lists, url)
    await fails(call, "http://127.0.0.1:9")
    await fails(call, url.replace("127.0.0.1", "localhost"))
    await fails(call, url, ClientCredentials("i", "s", token_url=url))
    await fails(download, url)
    late = set(sys.modules) - before
    assert not late, late

asyncio.run(main(sys.argv[1]))
"""


async def test_calls_beyond_the_files_of_a_process_fail_with_errors_of_the_library():
    async def serve(connection) -> None:
        while True:
            await connection.request()
            await asyncio.sleep(0)
            await connection.send(answer(PACKAGE))

    async with RawServer(serve) as server:
        await run_script(SHORT, server.url)


async def test_nothing_is_imported_where_something_fails():
    date = "Wed, 21 Oct 2015 07:28:00 GMT"
    ends = [
        answer(b"", "Retry-After: 0", status="429 No"),
        answer(b"", f"Retry-After: {date}", f"Date: {date}", status="429 No"),
        answer(b"<html>\xff", status="500 No"),
        answer(b'{"error":{"code":"x","message":"m"}}', status="503 No"),
        answer(b"{", "Content-Type: application/json; charset=latin-9", status="404 No"),
        answer(b"", status="401 No"),
        answer(b"", "Location: https://elsewhere.example/", status="302 No"),
        answer(b"\xff{", "Content-Type: text/html"),
        answer(b"x", "Content-Encoding: gzip"),
        answer(b'{"extendedData":[{"changesetId":"a","changesetIndex":1,"data":"!"}]}'),
        b"no HTTP\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{",
        b"",
    ]

    async def serve(connection) -> None:
        await connection.request()
        await connection.send(ends[connection.number % len(ends)])

    async with RawServer(serve) as server:
        await run_script(LATE, server.url, strict=False)
        assert len(server.requests) > len(ends)
