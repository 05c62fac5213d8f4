import asyncio
import dataclasses
import io
import signal
import sys
import time

import aiohttp
import pytest
from yarl import URL

from itwin_async.auth import ClientCredentials
from itwin_async.emulator import ROUTES, Delay, Emulator, Slow
from itwin_async.emulator._routes import _TABLE, find_route

SUN_CITY = "/imodels/5e19bee0-3aea-4355-a9f0-c6df9989ee7d"
DATA = f"{SUN_CITY}/changesets/extendeddata"


def test_every_route_is_found_and_served():
    assert len(ROUTES) == 20
    for route in _TABLE:
        path = "/" + "/".join(route.segments)
        for each in (path, f"{path}/"):
            found = find_route(route.method, each)
            assert found is not None
            assert found[0] is route
        if route.name in ROUTES:
            assert route.serve is not None
            assert route.serve.__name__ == route.name


@pytest.mark.parametrize(
    "path",
    ["/", "//", "/iTwins/x/account", "/imodels//changesets", "/extensions/a%2Fb/versions/1/2"],
)
async def test_what_is_no_operation_is_404(web, emulator, refused, path):
    refused(await web(emulator, path), 404, "NotFound")
    assert emulator.requests[-1].operation is None


async def test_an_id_with_an_encoded_slash_stays_one_id(web, emulator, refused):
    refused(await web(emulator, "/imodels/a%2Fchangesets"), 404, "iModelNotFound")
    assert emulator.requests[-1].operation == "get_imodel"


async def test_records(web, emulator):
    body = {"name": "", "iTwinId": "é"}
    before = time.monotonic()
    await web(emulator, "/extensions/?a=%24&$top=2", "POST", json=body, headers={"X-Own": "1"})
    await web(emulator, SUN_CITY)
    first, second = emulator.requests
    assert (first.operation, first.method, first.status) == ("create_extension", "POST", 422)
    assert (first.path, first.target) == ("/extensions/", "/extensions/?a=%24&$top=2")
    assert dict(first.query) == {"a": "$", "$top": "2"}
    assert first.headers["x-own"] == "1"
    assert b'"name"' in first.body
    assert before <= first.started <= first.ended <= second.started <= second.ended
    assert emulator.count("get_imodel") == 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        first.status = 200
    emulator.requests.clear()
    await web(emulator, SUN_CITY)
    assert len(emulator.requests) == 1


async def test_links_are_built_from_the_host_header(web, emulator):
    _, body, _ = await web(emulator, f"{DATA}?$top=1", headers={"Host": "proxy.example:81"})
    assert body["_links"]["next"]["href"].startswith("http://proxy.example:81/imodels/")


async def test_a_large_body_is_refused(web, emulator, refused):
    answer = await web(
        emulator, f"{SUN_CITY}/changesets/1/extendeddata", "POST", data=io.BytesIO(b" " * 2**21)
    )
    refused(answer, 413, "RequestTooLarge")


async def test_before_and_after():
    emulator = Emulator()
    with pytest.raises(RuntimeError, match="before it is started"):
        _ = emulator.url
    await emulator.aclose()
    await emulator.start()
    with pytest.raises(RuntimeError, match="running already"):
        await emulator.start()
    assert isinstance(emulator.credentials, ClientCredentials)
    url = emulator.url
    await emulator.aclose()
    await emulator.aclose()
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientConnectorError):
            await session.get(url)
    with pytest.raises(ValueError, match="must be positive"):
        Emulator(per_minute=-1)


async def test_closing_in_the_middle_of_everything_is_quick():
    before = asyncio.all_tasks()
    emulator = Emulator(payload_bytes=204_800)
    await emulator.start()
    emulator.faults.add("get_imodel", Delay(60), times=None)
    emulator.faults.add("list_itwins", Slow(1, chunk=1))
    bearer = {"Authorization": f"Bearer {emulator.issue_token()}"}
    async with aiohttp.ClientSession(headers=bearer) as session:

        async def get(path):
            async with session.get(URL(emulator.url + path, encoded=True)) as answer:
                if path.startswith(DATA):
                    await asyncio.sleep(60)
                return await answer.read()

        paths = (SUN_CITY, SUN_CITY, "/itwins/", f"{DATA}?$top=100")
        tasks = [asyncio.create_task(get(path)) for path in paths]
        async with session.get(f"{emulator.url}/itwins/myprimaryaccount") as idle:
            await idle.read()
        while len(emulator.requests) < 5:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.3)
        started = time.monotonic()
        await emulator.aclose()
        assert time.monotonic() - started < 0.5
        assert asyncio.all_tasks() - before <= set(tasks)
        assert all(record.ended for record in emulator.requests)
        tasks[-1].cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(
            isinstance(result, (aiohttp.ClientError, asyncio.CancelledError)) for result in results
        )


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
async def test_run_alone(ending):
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-W", "error", "-m", "itwin_async.emulator", "--port", "0", "--changesets", "3"),
        *("--per-minute", "2", "--token-lifetime", "60"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    lines = [(await process.stdout.readline()).decode().strip() for _ in range(4)]
    found = dict(line.split("=", 1) for line in lines)
    assert list(found) == [
        "ITWIN_BASE_URL",
        "ITWIN_TOKEN_URL",
        "ITWIN_CLIENT_ID",
        "ITWIN_CLIENT_SECRET",
    ]
    async with aiohttp.ClientSession() as session:
        form = {
            "grant_type": "client_credentials",
            "client_id": found["ITWIN_CLIENT_ID"],
            "client_secret": found["ITWIN_CLIENT_SECRET"],
        }
        async with session.post(found["ITWIN_TOKEN_URL"], data=form) as answer:
            token = await answer.json()
        assert token["expires_in"] == 60
        bearer = {"Authorization": f"Bearer {token['access_token']}"}
        counts = []
        for _ in range(3):
            async with session.get(found["ITWIN_BASE_URL"] + DATA, headers=bearer) as answer:
                counts.append(len((await answer.json()).get("extendedData", ())))
        assert counts == [3, 3, 0]
        process.send_signal(ending)
        rest = await asyncio.wait_for(process.communicate(), 10)
    assert (process.returncode, *rest) == (0, b"", b"")


async def test_wrong_arguments_alone():
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "itwin_async.emulator", "--itwins", "1"),
        stderr=asyncio.subprocess.PIPE,
    )
    _, text = await asyncio.wait_for(process.communicate(), 10)
    assert process.returncode == 2
    assert b"itwins must be at least 3" in text
