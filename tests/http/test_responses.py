"""Each status is its own error, redirects are not followed, and bad bodies are decode errors."""

import sys

import pytest
from attempts import refused, short_waits
from support import (
    PACKAGE,
    RawServer,
    answer,
    session_at,
    until,
)

from itwin_async import (
    ConflictError,
    DecodeError,
    ForbiddenError,
    InvalidRequestError,
    LinkError,
    NotFoundError,
    ResponseError,
    Retry,
    ServerError,
    UnauthorizedError,
)

__all__ = ["short_waits"]  # fixtures


OK = answer(PACKAGE)


THREE = Retry(attempts=3, base=0)


# Refusals and redirects

CLASSES = {
    302: ResponseError,
    400: InvalidRequestError,
    401: UnauthorizedError,
    403: ForbiddenError,
    404: NotFoundError,
    405: ResponseError,
    409: ConflictError,
    413: ResponseError,
    422: InvalidRequestError,
    500: ServerError,
    599: ServerError,
}


@pytest.mark.parametrize("status", CLASSES)
async def test_a_status_has_its_own_error(status):
    async with (
        RawServer(refused(status)) as server,
        session_at(server, retry=Retry(attempts=1)) as itwin,
    ):
        with pytest.raises(ResponseError) as caught:
            await itwin.packages.get_package("P")
        assert type(caught.value) is CLASSES[status]
        assert caught.value.status == status
        assert caught.value.operation == "GET /edfs/packages/{unique_name}"


async def test_a_refusal_keeps_what_the_platform_said():
    body = (
        b'{"error":{"code":"InvalidX","message":"Cannot.","target":"x",'
        b'"details":[{"code":"InvalidValue","message":"m","target":"$skip","innerError":{}}]}}'
    )
    async with RawServer(refused(422, body=body)) as server, session_at(server) as itwin:
        with pytest.raises(InvalidRequestError) as caught:
            await itwin.packages.get_package("P")
        error = caught.value
        assert str(error) == "422 InvalidX: Cannot. $skip: m"
        assert error.target == "x"
        (detail,) = error.details
        assert (detail.code, detail.message, detail.target) == ("InvalidValue", "m", "$skip")


BODIES = [
    b"",
    b"<html><body>Bad\r\nGateway</body></html>",
    b"\xff\xfe\x00",
    b"null",
    b"[]",
    b'"text"',
    b'{"error":null}',
    b'{"error":[]}',
    b'{"error":{"code":5,"message":{},"details":"x","target":[]}}',
    b'{"error":{"details":[null,5,{"code":null}]}}',
    b'{"code":"Unwrapped","message":"m"}',
    b'{"type":"about:blank","title":"Problem","detail":"d"}',
    b"[" * 50_000,
    b'{"error":' * 5_000,
    b"\x00" * 70_000,
    b"1" * 100_000,
]


@pytest.mark.parametrize("body", BODIES, ids=lambda body: repr(body[:30]))
async def test_a_refusal_of_any_shape_is_one_printable_line(body):
    async with RawServer(refused(404, body=body)) as server, session_at(server) as itwin:
        with pytest.raises(NotFoundError) as caught:
            await itwin.packages.get_package("P")
        line = str(caught.value)
        assert line.startswith("404")
        assert line.isprintable()
        assert len(line) < 500


async def test_an_endless_refusal_is_read_no_further_than_it_is_worth():
    async def endless(connection) -> None:
        await connection.request()
        await connection.send(b"HTTP/1.1 404 X\r\nContent-Length: 99999999999\r\n\r\n")
        for sent in range(1_000_000):
            mebibytes.append(sent)
            await connection.send(b"x" * (1 << 20))

    mebibytes = []
    async with RawServer(endless) as server, session_at(server) as itwin:
        with pytest.raises(NotFoundError):
            await itwin.packages.get_package("P")
        await until(lambda: server.open == 0)
    assert len(mebibytes) < 64  # most of it the sockets' own buffers


async def test_a_redirect_is_not_followed():
    async with RawServer(refused(307, "Location: /elsewhere"), OK) as server:
        async with session_at(server) as itwin:
            with pytest.raises(ResponseError, match="307"):
                await itwin.packages.get_package("P")
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    "location",
    [
        "https://evil.example/take?sig=SECRET",
        "//evil.example/take?sig=SECRET",
        "http://api.bentley.com@evil.example/?sig=SECRET",
        "https:///x?sig=SECRET",
        "http://[::1/?sig=SECRET",
        "javascript:SECRET",
        # In development mode aiohttp reads strictly, and takes no control character.
        *([] if sys.flags.dev_mode else ["\x7f SECRET \xff"]),
    ],
)
async def test_a_redirect_to_another_origin_is_a_link_error_without_its_query(location):
    async with RawServer(refused(302, f"Location: {location}")) as server:
        async with session_at(server) as itwin:
            with pytest.raises(LinkError) as caught:
                await itwin.packages.get_package("P")
            assert "SECRET" not in str(caught.value)
        assert len(server.requests) == 1


async def test_a_redirect_to_another_port_is_another_origin():
    async with RawServer(OK) as other:
        moved = refused(302, f"Location: {other.url}/edfs/packages/P")
        async with RawServer(moved) as server, session_at(server) as itwin:
            with pytest.raises(LinkError, match=str(other.port)):
                await itwin.packages.get_package("P")
        assert other.opened == 0


# Successes that are none


async def test_a_page_of_a_gateway_is_a_decode_error_that_names_its_type():
    portal = answer(b"<html>", "Content-Type: text/html; charset=utf-8")
    async with RawServer(portal) as server, session_at(server, retry=THREE) as itwin:
        with pytest.raises(DecodeError, match="text/html"):
            await itwin.packages.get_package("P")


@pytest.mark.parametrize("empty", [answer(), answer(status="204 No Content")])
async def test_an_empty_success_where_json_is_declared_is_a_decode_error(empty):
    async with RawServer(empty) as server, session_at(server, retry=THREE) as itwin:
        with pytest.raises(DecodeError, match="empty body"):
            await itwin.packages.get_package("P")


@pytest.mark.parametrize("kind", ["text/plain", "", "application/octet-stream", "\xff", "a/b; c="])
async def test_json_of_any_content_type_is_read(kind):
    async with (
        RawServer(answer(PACKAGE, f"Content-Type: {kind}")) as server,
        session_at(server) as itwin,
    ):
        assert (await itwin.packages.get_package("P")).name == "Package"


NOT_DECODED = {
    "not utf-8": b'{"uniqueName":"\xff"}',
    "BOM": b"\xef\xbb\xbf" + PACKAGE,
    "NaN": b'{"uniqueName":NaN}',
    "deep": b'{"x":' + b"[" * 200_000,
    "deep and whole": b'{"x":' + b"[" * 200_000 + b"]" * 200_000 + b"}",
    "cut": PACKAGE[:-1],
    "trailing": PACKAGE + b"x",
    "wrong type": b'{"uniqueName":5}',
    "list": b"[]",
    "null": b"null",
    "lone surrogate": b'{"uniqueName":"\\ud800"}',
}


@pytest.mark.parametrize("body", NOT_DECODED.values(), ids=NOT_DECODED)
async def test_what_is_not_the_declared_json_is_a_decode_error(body):
    async with RawServer(answer(body)) as server, session_at(server, retry=THREE) as itwin:
        with pytest.raises(DecodeError, match=r"GET /edfs/packages/\{unique_name\}"):
            await itwin.packages.get_package("P")
        assert len(server.requests) == 2


async def test_a_number_of_a_hundred_thousand_digits_in_an_unknown_field_is_no_matter():
    body = b'{"uniqueName":"P","x":' + b"1" * 100_000 + b"}"
    async with RawServer(answer(body)) as server, session_at(server) as itwin:
        assert (await itwin.packages.get_package("P")).unique_name == "P"


async def test_unknown_fields_are_ignored_and_unknown_words_kept():
    body = b'{"uniqueName":"P","projectStage":"Beta","new":{"a":[1]}}'
    async with RawServer(answer(body)) as server, session_at(server) as itwin:
        assert (await itwin.packages.get_package("P")).project_stage == "Beta"
