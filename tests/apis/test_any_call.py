"""`ITwinSession.list`, `request` with headers and ``full``, and `with_options`."""

import asyncio
import pickle
import traceback
from typing import Any

import msgspec
import pytest
from support import LINKS, PACKAGE, RawServer, answer, session_at, until

from itwin_async import (
    Answered,
    DecodeError,
    IModel,
    ITwinError,
    ITwinSession,
    LinkError,
    NotFoundError,
    Retry,
    StaticToken,
    TransportError,
    UserSignIn,
)
from itwin_async.emulator import Status

ONCE = Retry(attempts=1, base=0)
ITWIN = "dc914a84-e0c9-40e2-9d14-faf5ed84147f"
SECRET = "value-that-nobody-may-see"


async def silence(connection):
    """Take a request, and never answer."""
    await connection.request()
    await connection.gone()


class Named(msgspec.Struct):
    name: str


class Identified(msgspec.Struct):
    id: str


# Any list


async def test_list_follows_the_links_of_a_list_without_a_method(emulator, itwin):
    pager = itwin.list("/itwins/", items="iTwins", query={"$top": 2})
    found = [item["displayName"] async for item in pager]
    assert found == [item.display_name async for item in itwin.itwins.list_itwins()]
    assert len(found) == 3
    assert emulator.count("list_itwins") == 2 + 1


async def test_list_gives_the_type_that_was_asked_for(itwin):
    query = {"iTwinId": ITWIN}
    pager = itwin.list("/imodels/", items="iModels", returns=Identified, query=query, version="v2")
    assert all([isinstance(item, Identified) async for item in pager.ahead(2)])
    records = itwin.list("/imodels/", items="iModels", returns=IModel, query=query, version="v2")
    assert await records.first() == await itwin.imodels.list_imodels(ITWIN).first()


async def test_list_has_cursors_pages_and_the_first_items(itwin):
    pager = itwin.list("/itwins/", items="iTwins", query={"$top": 2})
    ids = [item["id"] async for item in pager]
    pages = [page async for page in pager.pages()]
    assert [len(page) for page in pages] == [2, 1]
    assert [item["id"] async for item in pager.resume(pages[0].cursor)] == ids[2:]
    assert [item["id"] async for item in pager.take(1)] == ids[:1]


async def test_list_sends_query_headers_and_version_with_each_page():
    first = b'{"things":[1],"_links":{"next":{"href":"/things?a=%62&$skip=1"}}}'
    last = b'{"things":[2],' + LINKS + b"}"
    async with RawServer(answer(first), answer(last)) as server, session_at(server) as itwin:
        pager = itwin.list(
            "/things", items="things", returns=int, query={"a": "b"}, headers={"X-A": "1"},
            version="v2",
        )  # fmt: skip
        assert server.opened == 0
        assert [item async for item in pager] == [1, 2]
        assert [got.target for got in server.requests] == ["/things?a=b", "/things?a=%62&$skip=1"]
        for got in server.requests:
            assert got.headers["x-a"] == "1"
            assert got.headers["accept"] == "application/vnd.bentley.itwin-platform.v2+json"


async def test_list_follows_the_next_link_of_odata():
    first = b'{"value":[1],"@odata.nextLink":"/things?$skip=1"}'
    last = b'{"value":[2]}'
    async with RawServer(answer(first), answer(last)) as server, session_at(server) as itwin:
        pager = itwin.list("/things", items="value", returns=int)
        assert [item async for item in pager] == [1, 2]


@pytest.mark.parametrize(
    "body", [b'{"others":[],"_links":{}}', b'{"things":null}', b'{"things":{}}', b"[]", b""]
)
async def test_list_without_its_key_is_a_decode_error(body):
    async with RawServer(answer(body)) as server, session_at(server, retry=ONCE) as itwin:
        with pytest.raises(DecodeError, match="GET /things"):
            await itwin.list("/things", items="things").first()


async def test_list_that_runs_in_a_loop_ends_with_a_link_error():
    body = b'{"things":[1],"_links":{"next":{"href":"/things"}}}'
    async with RawServer(answer(body)) as server, session_at(server) as itwin:
        items = aiter(itwin.list("/things", items="things", returns=int))
        assert await anext(items) == 1
        with pytest.raises(LinkError, match="loop"):
            await anext(items)


async def test_a_record_of_a_list_has_lenient_dates():
    body = b'{"iModels":[{"id":"a","createdDateTime":"never"}],"_links":{}}'
    async with RawServer(answer(body)) as server, session_at(server) as itwin:
        found = await itwin.list("/imodels", items="iModels", returns=IModel).first()
        assert found is not None
        assert found.created_date_time is None


@pytest.mark.parametrize(
    ("path", "keywords", "error"),
    [
        ("https://evil.example/x", {}, ValueError),
        ("x", {}, ValueError),
        (b"/x", {}, TypeError),
        ("/x", {"items": ""}, ValueError),
        ("/x", {"items": None}, TypeError),
        ("/x", {"items": "_links"}, ValueError),
        ("/x", {"returns": 5}, TypeError),
        ("/x", {"version": "1"}, ValueError),
        ("/x", {"query": "a=b"}, TypeError),
        ("/x", {"headers": {"authorization": "Bearer x"}}, ValueError),
    ],
    ids=str,
)
async def test_list_checks_its_arguments_at_once(itwin, emulator, path, keywords, error):
    with pytest.raises(error) as caught:
        itwin.list(path, **{"items": "a", **keywords})
    assert len(str(caught.value).splitlines()) == 1
    assert emulator.requests == []


# Headers, and whole answers


async def test_headers_of_a_request_win_over_the_usual_ones():
    async with RawServer(answer(b"{}")) as server, session_at(server) as itwin:
        headers = {"accept": "text/x", "Prefer": "a", "x-correlation-id": "mine", "if-match": '"1"'}
        got = await itwin.request("POST", "/x", headers=headers, body={}, full=True)
        sent = server.requests[0].headers
        assert {name: sent[name.lower()] for name in headers} == headers
        assert sent["authorization"].startswith("Bearer ")
        assert got.request_id == "mine"


@pytest.mark.parametrize(
    ("headers", "error", "words"),
    [
        ({"Authorization": SECRET}, ValueError, "Authorization"),
        ({"aUTHORIZATION": SECRET}, ValueError, "Authorization"),
        ({"X-A": f"a\r\nX-B: {SECRET}"}, ValueError, "X-A"),
        ({"X-A": f"a\n{SECRET}"}, ValueError, "X-A"),
        ({"X-A": f"é{SECRET}"}, ValueError, "X-A"),
        ({"X-A": f"\0{SECRET}"}, ValueError, "X-A"),
        ({"X-A\r\nX-B": SECRET}, ValueError, "names"),
        ({"X-É": SECRET}, ValueError, "names"),
        ({"": SECRET}, ValueError, "names"),
        ({"X A": SECRET}, ValueError, "names"),
        ({"X-A": 1}, TypeError, "str"),
        ({1: SECRET}, TypeError, "str"),
        ({"X-A": SECRET.encode()}, TypeError, "str"),
        ({"Host": "evil.example"}, ValueError, "Host"),
        ({"Content-Length": "5"}, ValueError, "Content-Length"),
        ({"X-A": SECRET, "x-a": SECRET}, ValueError, "twice"),
        ([("X-A", SECRET)], TypeError, "mapping"),
        (SECRET, TypeError, "mapping"),
    ],
    ids=str,
)
async def test_headers_that_cannot_be_sent_are_refused_in_one_sentence(headers, error, words):
    async with RawServer(answer(b"{}")) as server, session_at(server) as itwin:
        for refuse in (
            lambda: itwin.request("GET", "/x", headers=headers),
            lambda: itwin.list("/x", items="a", headers=headers),
            lambda: itwin.with_options(headers=headers),
        ):
            with pytest.raises(error, match=words) as caught:
                await refuse()  # type: ignore[misc]
            assert len(str(caught.value).splitlines()) == 1
            assert SECRET not in str(caught.value)
            frames = traceback.TracebackException.from_exception(
                caught.value, capture_locals=True
            ).stack
            own = [frame for frame in frames if "itwin_async" in frame.filename]
            assert own
            assert SECRET not in str([frame.locals for frame in own])
        assert server.opened == 0


@pytest.mark.parametrize(
    "broken", [b"", b"HTTP/1.1 nonsense", answer(status="403 X"), answer(b"{")]
)
async def test_no_frame_of_an_error_shows_the_value_of_a_header(broken):
    async with RawServer(broken) as server, session_at(server, retry=ONCE) as itwin:
        view = itwin.with_options(headers={"X-Key": SECRET}, timeout=0.1)
        for call in (
            lambda: itwin.with_options(timeout=0.1).request("GET", "/x", headers={"X-Key": SECRET}),
            lambda: view.request("GET", "/x"),
            lambda: view.list("/x", items="a", headers={"X-Other": SECRET}).first(),
        ):
            with pytest.raises(ITwinError) as caught:
                await call()
            found = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
            while found is not None:
                frames = [frame.locals for frame in found.stack if frame.filename != __file__]
                assert SECRET not in str(frames)
                found = found.__context__


async def test_full_gives_status_headers_id_and_data():
    headers = (
        "Content-Type: application/json", 'etag: "1"', "LAST-MODIFIED: now",
        "Location: /y?key=hidden",
        "Retry-After: 5", "X-RateLimit-Remaining: 7", "RateLimit-Limit: 9",
        "iTwinPlatform-RateLimit-RemainingCalls: 3", "ITwinPlatform-RateLimited-Tier: Community",
        "Set-Cookie: a=secret", "X-Other: 1", "X-Correlation-Id: theirs",
    )  # fmt: skip
    accepted = answer(b'{"name":"n"}', *headers, status="202 X")
    async with RawServer(accepted) as server, session_at(server) as itwin:
        got = await itwin.request("GET", "/x", returns=Named, full=True)
    assert isinstance(got, Answered)
    assert (got.status, got.data, got.request_id) == (202, Named("n"), "theirs")
    assert len(got.headers) == len(dict(got.headers))
    assert dict(got.headers) == {
        "Content-Type": "application/json",
        "ETag": '"1"',
        "Last-Modified": "now",
        "Location": "/y?key=hidden",
        "Retry-After": "5",
        "X-RateLimit-Remaining": "7",
        "RateLimit-Limit": "9",
        "iTwinPlatform-RateLimit-RemainingCalls": "3",
        "ITwinPlatform-RateLimited-Tier": "Community",
    }
    assert got.headers["etag"] == got.headers["ETag"]
    assert got.headers.get("set-cookie") is None
    assert "hidden" not in repr(got) + repr(got.headers)
    assert pickle.loads(pickle.dumps(got)) == got


@pytest.mark.parametrize("method", ["HEAD", "DELETE"])
async def test_full_gives_none_for_an_empty_answer(method):
    async with RawServer(answer(status="204 X")) as server, session_at(server) as itwin:
        got: Answered[Any] = await itwin.request(method, "/x", full=True)
        assert (got.status, got.data, dict(got.headers)) == (204, None, {})


async def test_full_raises_as_without(itwin):
    with pytest.raises(NotFoundError):
        await itwin.request("GET", "/edfs/packages/none", full=True)
    with pytest.raises(TypeError, match=r"^full must be a bool"):
        await itwin.request("GET", "/x", full="yes")


# Views with other options


async def test_a_view_shares_token_pool_limiter_and_statistics(emulator, itwin):
    view = itwin.with_options(timeout=5.0, headers={"X-A": "1"})
    assert isinstance(view, ITwinSession)
    assert view.limiter is itwin.limiter
    account = await view.itwins.get_primary_account()
    assert await itwin.itwins.get_primary_account() == account
    assert emulator.count("token") == 1
    assert view.stats == itwin.stats
    assert itwin.stats.requests == 2
    assert [request.headers.get("X-A") for request in emulator.requests[1:]] == ["1", None]


async def test_calls_lists_and_requests_of_a_view_send_its_headers():
    list_body = b'{"extensions":[],"things":[],"name":"P","uniqueName":"P",' + LINKS + b"}"
    async with RawServer(answer(list_body)) as server, session_at(server) as itwin:
        outer = itwin.with_options(headers={"X-A": "1", "x-b": "1"})
        view = outer.with_options(headers={"X-B": "2"}, timeout=9.0)
        await view.packages.get_package("P")
        await view.extensions.list_extensions().first()
        await view.list("/things", items="things").ahead(2).first()
        await view.request("GET", "/x", headers={"x-a": "3"})
        assert [(got.headers["x-a"], got.headers["x-b"]) for got in server.requests] == [
            ("1", "2"), ("1", "2"), ("1", "2"), ("3", "2")
        ]  # fmt: skip
        await itwin.packages.get_package("P")
        assert "x-a" not in server.requests[-1].headers


async def test_the_groups_of_a_view_are_its_own(itwin):
    group = itwin.imodels
    view = itwin.with_options(timeout=5.0)
    assert view.imodels is not group
    assert view.imodels is view.imodels
    assert itwin.imodels is group


async def test_the_timeout_of_a_view_bounds_its_calls_alone():
    async with RawServer(silence) as server, session_at(server, retry=ONCE) as itwin:
        view = itwin.with_options(timeout=0.05)
        slow = asyncio.create_task(itwin.packages.get_package("P"))
        await until(lambda: server.requests)
        with pytest.raises(TransportError, match=r"within 0\.05 s") as caught:
            await view.packages.get_package("P")
        assert caught.value.reason == "timeout"
        assert not slow.done()
        await itwin.aclose()
        with pytest.raises(RuntimeError, match="closed"):
            await slow


async def test_the_timeout_of_a_view_bounds_bodies_too():
    async def stuck(connection):
        await connection.request()
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{")
        await connection.gone()

    async with RawServer(stuck) as server, session_at(server, retry=ONCE) as itwin:
        with pytest.raises(TransportError, match=r"within 0\.05 s"):
            await itwin.with_options(timeout=0.05).request("GET", "/x")


async def test_the_retry_of_a_view_holds_for_its_calls_alone(emulator, itwin):
    view = itwin.with_options(retry=ONCE)
    emulator.faults.add("get_primary_account", [Status(503)])
    with pytest.raises(Exception, match="503"):
        await view.itwins.get_primary_account()
    emulator.faults.add("get_primary_account", [Status(503)])
    assert await itwin.itwins.get_primary_account()
    assert view.with_options(timeout=3.0)._executor.retry is ONCE


@pytest.mark.parametrize("closes", ["session", "view", "block"])
async def test_closing_either_closes_both(closes):
    async with RawServer(answer(PACKAGE)) as server:
        itwin = session_at(server)
        view = itwin.with_options(timeout=5.0)
        await view.packages.get_package("P")
        if closes == "block":
            async with view as entered:
                assert entered is view
        else:
            await (itwin if closes == "session" else view).aclose()
        assert itwin.closed
        assert view.closed
        for item in (itwin, view):
            with pytest.raises(RuntimeError, match="is closed"):
                await item.request("GET", "/x")
        await until(lambda: server.open == 0)


async def test_a_view_keeps_the_session_alive():
    async with RawServer(answer(PACKAGE)) as server:
        view = session_at(server).with_options(timeout=5.0)
        assert await view.packages.get_package("P")
        await view.aclose()


async def test_a_view_shows_its_options_and_no_value_of_a_header():
    itwin = ITwinSession(StaticToken("t"))
    view = itwin.with_options(timeout=5.0, headers={"X-Key": SECRET})
    assert repr(view) == "ITwinSession(https://api.bentley.com, open, timeout=5.0, headers=(X-Key))"
    assert "Retry(" in repr(view.with_options(retry=ONCE))
    assert repr(itwin) == "ITwinSession(https://api.bentley.com, open)"


@pytest.mark.parametrize(
    "options", [{"timeout": 0}, {"timeout": "5"}, {"retry": 3}, {"timeout": float("inf")}], ids=str
)
async def test_options_that_cannot_be_are_refused(itwin, options):
    with pytest.raises((TypeError, ValueError), match=f"^{next(iter(options))} must be"):
        itwin.with_options(**options)


async def test_a_person_signs_in_on_a_view():
    itwin = ITwinSession(UserSignIn("client"))
    assert itwin.with_options(timeout=5.0).begin_sign_in().url.startswith("https://")
    with pytest.raises(RuntimeError, match="UserSignIn"):
        ITwinSession(StaticToken("t")).with_options().begin_sign_in()


async def test_a_view_downloads_and_sends_no_header_to_file_storage(emulator, itwin, tmp_path):
    view = itwin.with_options(timeout=5.0, headers={"X-A": "1"})
    extension = await view.extensions.list_extensions().first()
    version = await view.extensions.list_versions(extension.id).first()
    await view.extensions.download_version(extension.id, version.number, tmp_path / "files")
    sent = {request.operation: request.headers.get("X-A") for request in emulator.requests}
    assert sent.pop("token") is None
    files = sent.keys() - {"list_extensions", "list_versions", "get_version"}
    assert files
    assert {sent.pop(name) for name in files} == {None}
    assert set(sent.values()) == {"1"}


@pytest.mark.parametrize("href", [b"5", b'""', b"[]", b"{}"])
async def test_a_next_link_of_odata_that_is_none_ends_the_list_behind_its_page(href):
    body = b'{"value":[1],"@odata.nextLink":%s}' % href
    async with RawServer(answer(body)) as server, session_at(server) as itwin:
        items = aiter(itwin.list("/things", items="value", returns=int))
        assert await anext(items) == 1
        with pytest.raises(LinkError, match="not a URL"):
            await anext(items)
