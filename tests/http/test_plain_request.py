"""`ITwinSession.request`: what it sends, what it gives, and what it refuses."""

import msgspec
import pytest
from attempts import short_waits
from support import (
    RawServer,
    answer,
    session_at,
)

from itwin_async import (
    DecodeError,
    NotFoundError,
    Retry,
)
from itwin_async.emulator import Status

__all__ = ["short_waits"]  # fixtures


THREE = Retry(attempts=3, base=0)


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
