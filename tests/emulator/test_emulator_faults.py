import asyncio
import time

import aiohttp
import pytest

from itwin_async.emulator import Cut, Delay, Edit, Emulator, Garbage, Reset, Slow, Status, Throttle

SUN_CITY = "/imodels/5e19bee0-3aea-4355-a9f0-c6df9989ee7d"
DATA = f"{SUN_CITY}/changesets/extendeddata"
PRIMARY = "76c1102e-4f33-4dfa-ad93-bcd9ab717977"


async def statuses(web, emulator, path, count):
    return [(await web(emulator, path))[0] for _ in range(count)]


async def test_how_often_and_from_when(web, emulator):
    emulator.faults.add("get_imodel", Status(503), times=2, after=1)
    assert await statuses(web, emulator, SUN_CITY, 5) == [200, 503, 503, 200, 200]
    emulator.faults.add("get_imodel", Status(500), times=None)
    assert await statuses(web, emulator, SUN_CITY, 3) == [500] * 3
    emulator.faults.clear()
    assert await statuses(web, emulator, SUN_CITY, 1) == [200]


async def test_what_they_match(web, emulator):
    emulator.faults.add("/imodels", Status(500), times=None)
    emulator.faults.add(lambda record: record.query.get("$top") == "3", Status(502), times=None)
    assert await statuses(web, emulator, SUN_CITY, 1) == [500]
    assert await statuses(web, emulator, DATA, 1) == [500]
    assert await statuses(web, emulator, "/imodelsx", 1) == [404]
    assert await statuses(web, emulator, "/itwins/", 1) == [200]
    assert await statuses(web, emulator, "/itwins/?$top=3", 1) == [502]
    emulator.faults.clear()
    emulator.faults.add("/", Status(500), times=None)
    assert await statuses(web, emulator, "/nowhere", 1) == [500]
    with pytest.raises(ValueError, match="list_imodel' is no operation"):
        emulator.faults.add("list_imodel", Status(500))


async def test_the_first_entry_that_fits_is_met(web, emulator):
    emulator.faults.add("get_imodel", Status(500))
    emulator.faults.add("get_imodel", Status(502))
    assert await statuses(web, emulator, SUN_CITY, 3) == [500, 502, 200]


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (Status(401), "Unauthorized"),
        (Status(403), "InsufficientPermissions"),
        (Status(409, code="DataConflict"), "DataConflict"),
        (Status(429), "TooManyRequests"),
        (Status(429, code="Other"), "Other"),
        (Status(500), "Unknown"),
    ],
)
async def test_a_status_has_an_error_body(web, emulator, refused, fault, code):
    emulator.faults.add("get_imodel", fault)
    answer = await web(emulator, SUN_CITY)
    refused(answer, fault.status, code)
    assert answer[2].get("Retry-After") == ("1" if fault.status == 429 else None)


async def test_a_status_of_one_s_own(web, emulator):
    emulator.faults.add("get_imodel", Status(429, headers={}))
    assert "Retry-After" not in (await web(emulator, SUN_CITY))[2]
    emulator.faults.add("get_imodel", Status(503, headers={"Retry-After": "x"}, body="busy"))
    status, body, headers = await web(emulator, SUN_CITY)
    assert (status, body, headers["Retry-After"]) == (503, b"busy", "x")
    emulator.faults.add("get_imodel", Status(200, body={"iModel": None}))
    assert (await web(emulator, SUN_CITY))[:2] == (200, {"iModel": None})
    emulator.faults.add("get_imodel", Status(500, body=b"\xff"))
    assert (await web(emulator, SUN_CITY))[:2] == (500, b"\xff")
    emulator.faults.add("get_imodel", Status(302, headers={"Location": "/itwins/"}))
    status, body, headers = await web(emulator, SUN_CITY, allow_redirects=False)
    assert (status, body, headers["Location"]) == (302, b"", "/itwins/")
    emulator.faults.add("get_imodel", Status(204))
    assert (await web(emulator, SUN_CITY))[:2] == (204, b"")


async def test_the_token_endpoint_has_faults_too(web, emulator):
    emulator.faults.add("token", Status(400))
    emulator.faults.add("token", Status(503))
    emulator.faults.add("token", Throttle(3))
    for status, error in ((400, "invalid_client"), (503, "server_error")):
        got, body, _ = await web(emulator, emulator.token_url, "POST", token=False)
        assert (got, body) == (status, {"error": error})
    got, _, headers = await web(emulator, emulator.token_url, "POST", token=False)
    assert (got, headers["Retry-After"]) == (429, "3")
    assert emulator.count("token") == 3


async def test_a_status_does_not_perform_the_operation(web, emulator):
    new = {"name": "mine", "iTwinId": PRIMARY}
    emulator.faults.add("create_extension", Status(500))
    emulator.faults.add("create_extension", Reset(after_request=False))
    emulator.faults.add("create_extension", Reset())
    assert (await web(emulator, "/extensions/", "POST", json=new))[0] == 500
    for _ in range(2):
        with pytest.raises(aiohttp.ClientOSError):
            await web(emulator, "/extensions/", "POST", json=new)
    assert (await web(emulator, "/extensions/", "POST", json=new))[0] == 409
    assert [record.status for record in emulator.requests] == [500, None, None, 409]
    assert all(record.ended for record in emulator.requests)


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("after", [0, 1, 1000])
async def test_a_cut_sends_so_many_bytes(web, emulator, reset, after):
    emulator.faults.add("list_extended_data", Cut(after, reset))
    bearer = {"Authorization": f"Bearer {emulator.issue_token()}"}
    got = b""
    with pytest.raises(aiohttp.ClientPayloadError):
        async with web.session.get(emulator.url + DATA, headers=bearer) as answer:
            assert answer.status == 200
            assert int(answer.headers["Content-Length"]) > 1000
            async for chunk in answer.content.iter_any():
                got += chunk
    assert len(got) == after
    assert emulator.requests[-1].status == 200
    assert await statuses(web, emulator, DATA, 1) == [200]


async def test_garbage(web, emulator):
    emulator.faults.add("get_imodel", Garbage())
    status, body, headers = await web(emulator, SUN_CITY)
    assert (status, headers["Content-Type"]) == (200, "text/html")
    assert body.startswith(b"<html>")


async def test_delays_and_drips(web, emulator):
    emulator.faults.add("get_imodel", Delay(0.2))
    started = time.monotonic()
    assert await statuses(web, emulator, SUN_CITY, 1) == [200]
    assert 0.2 <= time.monotonic() - started < 1
    emulator.faults.add("get_imodel", [Delay(0.1), Slow(5000, chunk=100)])
    started = time.monotonic()
    status, body, headers = await web(emulator, SUN_CITY)
    assert (status, bool(body["iModel"])) == (200, True)
    assert time.monotonic() - started >= int(headers["Content-Length"]) / 5000


async def test_faults_in_a_row(web, emulator):
    emulator.faults.add("get_imodel", [Garbage(b"x" * 100, status=502), Cut(50)])
    with pytest.raises(aiohttp.ClientPayloadError):
        await web(emulator, SUN_CITY)
    record = emulator.requests[-1]
    assert (record.status, record.operation) == (502, "get_imodel")


async def test_edits_leave_the_emulator_s_own_data_alone(web, emulator):
    def other_host(page):
        page["_links"]["next"] = {"href": "https://evil.example/"}
        page["extendedData"].clear()

    emulator.faults.add("list_extended_data", Edit(other_host, headers={"X-Extra": "1"}))
    _, body, headers = await web(emulator, DATA)
    assert body["_links"]["next"]["href"] == "https://evil.example/"
    assert headers["X-Extra"] == "1"
    emulator.faults.add("list_extended_data", Edit(lambda page: page["extendedData"], status=203))
    status, body, _ = await web(emulator, DATA)
    assert (status, len(body)) == (203, 100)
    emulator.faults.add("list_extended_data", Edit(lambda page: b"{"))
    assert (await web(emulator, DATA))[:2] == (200, b"{")
    emulator.faults.add("list_packages", Edit(lambda body: body["packages"].clear()))
    assert (await web(emulator, "/edfs/packages"))[1] == {"packages": []}
    assert len((await web(emulator, "/edfs/packages"))[1]["packages"]) == 12


async def test_a_page_that_is_made_bit_by_bit_has_the_same_faults(web):
    async with Emulator(payload_bytes=204_800) as emulator:
        emulator.faults.add("list_extended_data", Edit(lambda page: page["extendedData"].clear()))
        assert (await web(emulator, DATA))[1]["extendedData"] == []
        emulator.faults.add("list_extended_data", Cut(5_000_000))
        with pytest.raises(aiohttp.ClientPayloadError):
            await web(emulator, DATA)
        _, body, headers = await web(emulator, DATA)
        assert len(body["extendedData"]) == 100
        assert int(headers["Content-Length"]) > 26_000_000
        _, body, _ = await web(emulator, f"{DATA}?$skip=100")
        assert body["extendedData"] == []


async def test_a_client_that_leaves_is_noticed(web, emulator):
    emulator.faults.add("get_imodel", Delay(60))
    task = asyncio.create_task(web(emulator, SUN_CITY))
    while not emulator.requests:
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    for _ in range(100):
        if emulator.requests[0].ended:
            break
        await asyncio.sleep(0.01)
    assert emulator.requests[0].ended
    assert emulator.requests[0].status is None
    assert (await web(emulator, SUN_CITY))[0] == 200
    assert emulator.max_in_flight == 1
