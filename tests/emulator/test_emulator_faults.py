import asyncio
import re
import time

import aiohttp
import pytest
from support import Clock, Running, until

from itwin_async import ITwinSession, ResponseError
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
    response = await web(emulator, SUN_CITY)
    refused(response, fault.status, code)
    assert response[2].get("Retry-After") == ("1" if fault.status == 429 else None)


async def test_a_status_with_its_own_headers_and_body(web, emulator):
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
        async with web.session.get(emulator.url + DATA, headers=bearer) as response:
            assert response.status == 200
            assert int(response.headers["Content-Length"]) > 1000
            async for chunk in response.content.iter_any():
                got += chunk
    assert len(got) == after
    assert emulator.requests[-1].status == 200
    assert await statuses(web, emulator, DATA, 1) == [200]


async def test_garbage(web, emulator):
    emulator.faults.add("get_imodel", Garbage())
    status, body, headers = await web(emulator, SUN_CITY)
    assert (status, headers["Content-Type"]) == (200, "text/html")
    assert body.startswith(b"<html>")


async def test_delayed_and_slow_responses(web, emulator):
    emulator.faults.add("get_imodel", Delay(5))
    with Clock() as clock:
        pending = asyncio.create_task(statuses(web, emulator, SUN_CITY, 1))
        await until(lambda: emulator.requests)
        clock.forward(2)
        await asyncio.sleep(0.01)
        assert not pending.done()
        clock.forward(3)
        assert await pending == [200]
    emulator.faults.add("get_imodel", [Delay(0.1), Slow(5000, chunk=100)])
    started = time.monotonic()
    status, body, headers = await web(emulator, SUN_CITY)
    assert (status, bool(body["iModel"])) == (200, True)
    assert time.monotonic() - started >= int(headers["Content-Length"]) / 5000


async def test_several_faults_together(web, emulator):
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


async def test_a_page_that_is_encoded_in_pieces_has_the_same_faults(web):
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


async def test_a_client_that_leaves_is_noticed(cancel_kind, web, emulator):
    emulator.faults.add("get_imodel", Delay(60))
    running = Running(cancel_kind, web(emulator, SUN_CITY))
    await until(lambda: emulator.requests)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await until(lambda: emulator.requests[0].ended)
    assert emulator.requests[0].status is None
    assert (await web(emulator, SUN_CITY))[0] == 200
    assert emulator.max_in_flight == 1


async def asynchronous(_):
    return True


class Asynchronous:
    async def __call__(self, _):
        return True


def raises(error):
    def function(_):
        raise error

    return function


@pytest.mark.parametrize(
    ("arguments", "kind", "sentence"),
    [
        (("/", 500), TypeError, "fault must be a fault such as Status(500) or Reset(), not int"),
        (("/", "500"), TypeError, "fault must be a fault such as Status(500) or Reset(), not str"),
        (("/", b"500"), TypeError, "not bytes"),
        (("/", None), TypeError, "not None"),
        (("/", Reset), TypeError, "not the class Reset"),
        (("/", [Reset(), Status]), TypeError, "not the class Status"),
        (("/", [[Reset()]]), TypeError, "not list"),
        (("/", []), ValueError, "fault must be one fault or several, not none"),
        ((None, Reset()), TypeError, "must be an operation, a path or a function, not None"),
        ((Reset(), "/"), TypeError, "must be an operation, a path or a function, not Reset"),
        ((Reset, Reset()), TypeError, "a path or a function, not the class Reset"),
        (("", Reset()), ValueError, "'' is no operation"),
        (("/x?y=1", Reset()), ValueError, "a path without a query, not '/x?y=1'"),
        ((asynchronous, Reset()), TypeError, "match must be a plain function, not an async one"),
        ((Asynchronous(), Reset()), TypeError, "match must be a plain function"),
        (("/", Reset(), 0), ValueError, "times must be at least 1, not 0"),
        (("/", Reset(), -1), ValueError, "times must be at least 1, not -1"),
        (("/", Reset(), 1.5), TypeError, "times must be an int or None, not float"),
        (("/", Reset(), True), TypeError, "times must be an int or None, not bool"),
    ],
)
def test_a_plan_that_cannot_happen(arguments, kind, sentence):
    emulator = Emulator()
    with pytest.raises(kind, match=re.escape(sentence)):
        emulator.faults.add(*arguments)
    assert repr(emulator.faults) == "<Faults: 0 planned>"


@pytest.mark.parametrize(
    ("after", "kind", "sentence"),
    [
        (-1, ValueError, "after must be at least 0, not -1"),
        (1.5, TypeError, "after must be an int, not float"),
        (None, TypeError, "after must be an int, not None"),
    ],
)
def test_matches_that_pass_first_are_counted(after, kind, sentence):
    with pytest.raises(kind, match=sentence):
        Emulator().faults.add("/", Reset(), after=after)


@pytest.mark.parametrize(
    ("make", "kind", "sentence"),
    [
        (lambda: Status("x"), TypeError, "status must be an int, not str"),
        (lambda: Status(None), TypeError, "status must be an int, not None"),
        (lambda: Status(99), ValueError, "status must be from 200 to 999, not 99"),
        (lambda: Status(500, headers=5), TypeError, "headers must be a mapping of str to str"),
        (lambda: Status(500, headers={"A": 1}), TypeError, "headers must be str, not int"),
        (lambda: Status(500, headers={"A": "1\r\nB: 2"}), ValueError, "no line break"),
        (lambda: Status(500, code=5), TypeError, "code must be a str, not int"),
        (lambda: Status(500, body=object()), TypeError, "body must be bytes, text or JSON"),
        (lambda: Throttle(None), TypeError, "retry_after must be a number or a str, not None"),
        (lambda: Throttle("1\n2"), ValueError, "retry_after must have no line break"),
        (lambda: Delay("1"), TypeError, "seconds must be a number, not str"),
        (lambda: Delay(-1), ValueError, "seconds must be at least 0, not -1"),
        (lambda: Delay(float("nan")), ValueError, "seconds must be at least 0, not nan"),
        (lambda: Reset(1), TypeError, "after_request must be a bool, not int"),
        (lambda: Cut("1"), TypeError, "after_bytes must be an int, not str"),
        (lambda: Cut(-1), ValueError, "after_bytes must be at least 0, not -1"),
        (lambda: Cut(1, 2), TypeError, "reset must be a bool, not int"),
        (lambda: Garbage("x"), TypeError, "body must be bytes, not str"),
        (lambda: Garbage(content_type=None), TypeError, "content_type must be a str, not None"),
        (lambda: Garbage(content_type="a\nb"), ValueError, "content_type must have no line break"),
        (lambda: Garbage(status="x"), TypeError, "status must be an int, not str"),
        (lambda: Slow(0), ValueError, "bytes_per_second must be above 0, not 0"),
        (lambda: Slow("1"), TypeError, "bytes_per_second must be a number, not str"),
        (lambda: Slow(1, chunk=0), ValueError, "chunk must be at least 1, not 0"),
        (Edit, ValueError, "an Edit must have a function, headers or a status"),
        (lambda: Edit(headers={}), ValueError, "an Edit must have a function, headers or a"),
        (lambda: Edit(5), TypeError, "function must be a function, not int"),
        (lambda: Edit(asynchronous), TypeError, "function must be a plain function"),
        (lambda: Edit(status="x"), TypeError, "status must be an int or None, not str"),
        (lambda: Edit(status=0), ValueError, "status must be from 200 to 999, not 0"),
    ],
)
def test_a_fault_that_cannot_happen(make, kind, sentence):
    with pytest.raises(kind, match=re.escape(sentence)):
        make()


class OwnError(Exception):
    pass


def endless(page):
    page["self"] = page


BROKEN = [
    (lambda page: page["typo"], KeyError, "typo"),
    (lambda page: object(), TypeError, "object"),
    (endless, RecursionError, "recursion"),
    (lambda page: "\udc80", UnicodeEncodeError, "surrogates"),
    (lambda page: asynchronous(page), TypeError, "must not be async"),
    (raises(OwnError("mine")), OwnError, "mine"),
    (lambda page: pytest.fail("mine"), pytest.fail.Exception, "mine"),
]


@pytest.mark.parametrize(("function", "kind", "words"), BROKEN)
async def test_an_edit_that_fails_is_raised_at_the_end(web, refused, function, kind, words):
    with pytest.raises(kind, match=words) as caught:
        async with Emulator() as emulator:
            emulator.faults.add("get_imodel", [Edit(function), Cut(1)])
            response = await web(emulator, f"{SUN_CITY}?secret=1")
            refused(response, 418, "BrokenFault")
            assert "in the edit " in response[1]["error"]["message"]
            assert kind.__name__ in response[1]["error"]["message"]
            assert emulator.requests[0].status == 418
            assert (await web(emulator, SUN_CITY))[0] == 200
    (note,) = caught.value.__notes__
    assert note == f"in the edit {function.__qualname__} of a fault, for GET {SUN_CITY}"
    await emulator.aclose()  # raised once


async def test_a_failure_that_no_coroutine_can_raise_is_the_cause(web):
    with pytest.raises(RuntimeError, match="StopIteration") as caught:
        async with Emulator() as emulator:
            emulator.faults.add("get_imodel", Edit(lambda page: next(iter(()))))
            assert await statuses(web, emulator, SUN_CITY, 1) == [418]
    assert isinstance(caught.value.__cause__, StopIteration)
    assert caught.value.__cause__.__notes__


async def test_an_edit_after_an_edit_still_gets_json(web, emulator):
    edits = [Edit(lambda body: {"n": 1}), Edit(lambda body: {"n": body["n"] + 1})]
    emulator.faults.add("get_imodel", edits)
    assert (await web(emulator, SUN_CITY))[1] == {"n": 2}


@pytest.mark.parametrize(
    ("match", "kind"),
    [
        (lambda record: record.typo, AttributeError),
        (lambda record: asynchronous(record), TypeError),
        (raises(OwnError()), OwnError),
    ],
)
async def test_a_match_that_fails_is_raised_at_the_end(web, refused, match, kind):
    emulator = Emulator()
    await emulator.start()
    emulator.faults.add(match, Status(500))
    emulator.faults.add("create_extension", Status(500))
    new = {"name": "mine", "iTwinId": PRIMARY}
    refused(await web(emulator, "/extensions/", "POST", json=new), 418, "BrokenFault")
    emulator.faults.clear()
    assert (await web(emulator, "/extensions/", "POST", json=new))[0] == 201  # not performed before
    with pytest.raises(kind) as caught:
        await emulator.aclose()
    assert caught.value.__notes__ == [
        f"in the match {match.__qualname__} of a fault, for POST /extensions/"
    ]
    await emulator.aclose()


async def test_the_first_failure_is_the_one_that_is_raised(web):
    first, second = OwnError("first"), OwnError("second")
    with pytest.raises(OwnError) as caught:
        async with Emulator() as emulator:
            emulator.faults.add("get_imodel", Edit(raises(first)), times=2)
            emulator.faults.add("get_imodel", Edit(raises(second)))
            assert await statuses(web, emulator, SUN_CITY, 4) == [418, 418, 418, 200]
    assert caught.value is first
    assert len(first.__notes__) == 1


async def test_a_failure_explains_the_error_of_the_block(web):
    with pytest.raises(OwnError, match="cause") as caught:
        async with Emulator() as emulator:
            emulator.faults.add("get_imodel", Edit(raises(OwnError("cause"))))
            await web(emulator, SUN_CITY)
            raise ValueError("effect")
    assert isinstance(caught.value.__context__, ValueError)


async def test_a_cancelled_block_stays_cancelled(cancel_kind, web):
    met = asyncio.Event()
    notes = []

    async def block():
        try:
            async with Emulator() as emulator:
                emulator.faults.add("get_imodel", Edit(raises(OwnError("cause"))))
                await web(emulator, SUN_CITY)
                met.set()
                await asyncio.sleep(60)
        except asyncio.CancelledError as error:
            notes.extend(error.__notes__)
            raise

    running = Running(cancel_kind, block())
    await met.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    (note,) = notes
    assert note.endswith(f"GET {SUN_CITY}: OwnError('cause')")


@pytest.mark.parametrize("operation", ["get_imodel", "token"])
async def test_our_client_does_not_retry_a_broken_fault(operation):
    error = OwnError("mine")
    with pytest.raises(OwnError) as caught:
        async with (
            Emulator() as emulator,
            ITwinSession(emulator.credentials, base_url=emulator.url) as itwin,
        ):
            emulator.faults.add(operation, Edit(raises(error)), times=None)
            with pytest.raises(ResponseError, match="BrokenFault: in the edit") as refused:
                await itwin.imodels.get_imodel(SUN_CITY.rpartition("/")[2])
            assert refused.value.status == 418
            assert emulator.count(operation) == 1
    assert caught.value is error
