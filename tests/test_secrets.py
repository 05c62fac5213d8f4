"""No token, no secret and no query of a signed URL in anything that is shown."""

import asyncio
import gc
import logging
import pickle
import ssl
from collections.abc import Awaitable

import pytest
import secrecy
from support import PACKAGE, RawServer, answer, head, until

from itwin_async import (
    ClientCredentials,
    Extension,
    ExtensionFile,
    ITwinError,
    ITwinSession,
    Link,
    Retry,
    StaticToken,
    Token,
    TransportError,
)
from itwin_async.emulator import Reset, Status

TOKEN = "canary-token-5d1f"
SECRET = "canary/secret+8e2c="
QUOTED = "canary%2Fsecret%2B8e2c%3D"
SIGNED = "canary-signature-77aa"


def shown(error: BaseException) -> str:
    """All that is shown of an error, whose copy must be as good."""
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), copy.args) == (type(error), str(error), error.args)
    assert vars(copy) == vars(error)
    return secrecy.shown(error)


ECHOES = {
    "a refusal that echoes the header": answer(
        b'{"error":{"code":"X","message":"bad Authorization: Bearer canary-token-5d1f",'
        b'"target":"canary-token-5d1f","details":[{"code":"canary-token-5d1f",'
        b'"message":"token canary-token-5d1f","target":"canary-token-5d1f"}]}}',
        status="400 X",
    ),
    "a page that echoes the token": answer(b"<p>canary-token-5d1f</p>", status="403 X"),
    "problem+json": answer(b'{"title":"t","detail":"canary-token-5d1f"}', status="422 X"),
    "a token across the cut": answer(b"x" * 190 + b" canary-token-5d1f", status="500 X"),
    "a signed url": answer(
        b'{"code":"X","message":"see https://blob.example/f?sig=canary-signature-77aa&se=1"}',
        status="409 X",
    ),
    "a redirect": answer(
        b"", "Location: https://blob.example/f?sig=canary-signature-77aa", status="302 X"
    ),
    "a correlation id": answer(b"", "X-Correlation-Id: Bearer canary-token-5d1f", status="404 X"),
    "a status line": head(status="400 canary-token-5d1f"),
    "a bad header": b"HTTP/1.1 200 OK\r\nbad canary-token-5d1f\r\n\r\n",
    "no http": b"canary-token-5d1f\r\n\r\n",
    "a body that does not decode": answer(b"canary-token-5d1f"),
    "a content type": answer(b"<", "Content-Type: canary-token-5d1f"),
    "a throttle": answer(b"canary-token-5d1f", "Retry-After: 9999", status="429 X"),
    "a wrong type": answer(b'{"uniqueName":["canary-token-5d1f"]}'),
    "nothing": b"",
}


@pytest.mark.parametrize("text", ECHOES.values(), ids=ECHOES)
async def test_no_error_and_no_log_shows_the_token(text, caplog):
    caplog.set_level(logging.DEBUG)

    async def echo(connection) -> None:
        await connection.request()
        await connection.send(text)

    events = []
    async with (
        RawServer(echo) as server,
        ITwinSession(
            StaticToken(TOKEN),
            base_url=server.url,
            retry=Retry(attempts=2, base=0),
            on_event=events.append,
        ) as itwin,
    ):
        with pytest.raises(ITwinError) as caught:
            await itwin.packages.get_package("P")
        assert server.requests[0].headers["authorization"] == f"Bearer {TOKEN}"
    text = shown(caught.value) + repr(events)
    text += "\n".join(f"{record.getMessage()} {record.__dict__}" for record in caplog.records)
    assert "canary" not in text


TOKEN_ANSWERS = {
    "an echo of the form": answer(
        b'{"error":"invalid_client","error_description":"canary/secret+8e2c= of id"}',
        status="400 X",
    ),
    "an encoded echo": answer(
        b"client_secret=canary%2Fsecret%2B8e2c%3D&grant_type=x", status="400 X"
    ),
    "an echo in pieces": answer(b"<p>canary%2Fsecret%2B8e2c%3D</p>", status="500 X"),
    "no token": answer(b'{"refresh_token":"canary-token-5d1f","expires_in":5}'),
    "a token for no header": answer(b'{"access_token":"canary-token-5d1f\\n"}'),
    "no json": answer(b"access_token=canary-token-5d1f"),
    "a redirect": answer(b"", "Location: https://x.example/?canary-token-5d1f", status="307 X"),
    "no http": b"canary/secret+8e2c=\r\n\r\n",
    "nothing": b"",
}


@pytest.mark.parametrize("text", TOKEN_ANSWERS.values(), ids=TOKEN_ANSWERS)
async def test_no_error_of_the_token_endpoint_shows_the_secret(text, caplog):
    caplog.set_level(logging.DEBUG)

    async def echo(connection) -> None:
        await connection.request()
        await connection.send(text)

    async with RawServer(echo) as server:
        credentials = ClientCredentials("id", SECRET, token_url=f"{server.url}/connect/token")
        retry = Retry(attempts=2, base=0)
        async with ITwinSession(credentials, base_url=server.url, retry=retry) as itwin:
            with pytest.raises(ITwinError) as caught:
                await itwin.packages.get_package("P")
        assert QUOTED.encode() in server.requests[0].body
    text = shown(caught.value)
    text += "\n".join(f"{record.getMessage()} {record.__dict__}" for record in caplog.records)
    assert "canary" not in text


async def black_hole(connection) -> None:
    await connection.gone()


async def reset(connection) -> None:
    await connection.request()
    connection.reset()


async def cut(connection) -> None:
    await connection.request()
    await connection.send(head("Content-Length: 99"), b'{"_links":{"download":"?sig=canary-s')
    connection.reset()


async def no_tls(connection) -> None:
    await connection.reader.read(1)
    await connection.send(b"HTTP/1.1 400 X\r\n\r\n")


FRAMES = {"timeout": black_hole, "reset": reset, "cut": cut, "tls": no_tls}


@pytest.mark.parametrize("reason", [*FRAMES, "refused", "dns"])
async def test_no_frame_of_an_error_holds_what_was_sent(reason, monkeypatch):
    """Error reporters show locals: ours, and those of aiohttp's frames that an error leads to."""
    async with RawServer(FRAMES.get(reason, black_hole)) as server:
        url = server.url
        if reason == "dns":
            url = "https://no-such-host.invalid"
        elif reason == "tls":
            url = url.replace("http:", "https:")
        elif reason == "refused":
            server._server.close()
        provider = ClientCredentials("id", SECRET, token_url=f"{url}/connect/token")
        for source in (StaticToken(TOKEN), provider):
            async with ITwinSession(
                source, base_url=url, retry=Retry(attempts=1), timeout=0.1
            ) as itwin:
                with pytest.raises(TransportError) as caught:
                    await itwin.packages.get_package("P")
                assert caught.value.reason == reason
                assert "canary" not in secrecy.frames(caught.value)
                with pytest.raises(TransportError) as caught:
                    await anext(aiter(itwin.extensions.list_extensions()))
                assert "canary" not in secrecy.frames(caught.value)


async def test_no_frame_of_a_deadline_of_ones_own_holds_what_was_sent():
    async with (
        RawServer(black_hole) as server,
        ITwinSession(StaticToken(TOKEN), base_url=server.url) as itwin,
    ):
        with pytest.raises(TimeoutError) as caught:
            async with asyncio.timeout(0.05):
                await itwin.packages.get_package("P")
        assert isinstance(caught.value.__cause__, asyncio.CancelledError)
        assert "canary" not in secrecy.frames(caught.value)


async def test_no_frame_of_a_session_that_is_closed_holds_what_was_sent():
    async with (
        RawServer(black_hole) as server,
        ITwinSession(StaticToken(TOKEN), base_url=server.url) as itwin,
    ):
        call = asyncio.create_task(itwin.packages.get_package("P"))
        await until(lambda: itwin.stats.requests and server.open)
        await itwin.aclose()
        with pytest.raises(RuntimeError, match="closed") as caught:
            await call
        assert "canary" not in secrecy.frames(caught.value)


@pytest.mark.parametrize("way", ["reset", "timeout", "cut", "cancelled", "not https", "403"])
async def test_no_frame_of_an_error_of_a_download_holds_its_url(way, tmp_path):
    handler = {**FRAMES, "cancelled": black_hole, "403": answer(b"no", status="403 X")}
    async with RawServer(handler.get(way, black_hole)) as blobs:
        url = blobs.url.replace("http", "ftp") if way == "not https" else blobs.url
        version = (
            b'{"version":{"number":"1","files":[{"relativePath":"a.js","downloadUrl":'
            b'"%s/a.js?sig=canary-signature-77aa"}]}}' % url.encode()
        )
        retry = Retry(attempts=1)
        async with (
            RawServer(answer(version)) as server,
            ITwinSession(
                StaticToken(TOKEN), base_url=server.url, retry=retry, timeout=0.2
            ) as itwin,
        ):
            kind = TimeoutError if way == "cancelled" else ITwinError
            with pytest.raises(kind) as caught:
                async with asyncio.timeout(0.1 if way == "cancelled" else None):
                    await itwin.extensions.download_version("E", "1", tmp_path)
    assert "canary" not in secrecy.frames(caught.value)


@pytest.mark.unmeasured
async def test_no_frame_of_a_refused_address_holds_it(itwin):
    with pytest.raises(ValueError, match="path must be") as caught:
        await itwin.request("GET", f"https://blob.example/f?sig={SIGNED}")
    assert "canary" not in secrecy.frames(caught.value)
    with pytest.raises(ValueError, match="base_url") as caught:
        ITwinSession(StaticToken(TOKEN), base_url=f"https://u:{TOKEN}@api.bentley.com")
    assert "canary" not in secrecy.frames(caught.value)


class Waitless:
    def get_token(self, requester: object) -> Token:
        return Token(TOKEN)


def with_line_end() -> Awaitable[str]:
    return asyncio.sleep(0, TOKEN + "\n")


def as_bytes() -> Awaitable[bytes]:
    return asyncio.sleep(0, TOKEN.encode())


@pytest.mark.parametrize(
    ("provider", "message"),
    [
        (with_line_end, "visible ASCII"),
        (as_bytes, "must give a Token, not bytes"),
        (lambda: TOKEN, "must be an async callable"),
        (Waitless(), "must be an async callable"),
    ],
)
async def test_no_frame_of_a_provider_that_gives_no_token_holds_what_it_gave(provider, message):
    async with RawServer(b"") as server, ITwinSession(provider, base_url=server.url) as itwin:
        with pytest.raises((TypeError, ValueError), match=message) as caught:
            await itwin.packages.get_package("P")
    assert "canary" not in secrecy.frames(caught.value)


@pytest.mark.slow
async def test_no_log_of_a_session_at_work_shows_a_secret(emulator, caplog):
    caplog.set_level(logging.DEBUG)
    secret = emulator.credentials.client_secret
    for fault in (Status(500), Reset(), Status(429, headers={"Retry-After": "0"}), Status(401)):
        emulator.faults.add("list_extensions", fault)
    retry = Retry(base=0.001)
    async with ITwinSession(emulator.credentials, base_url=emulator.url, retry=retry) as itwin:
        assert [item async for item in itwin.extensions.list_extensions()]
    tokens = {
        got.headers["Authorization"].partition(" ")[2]
        for got in emulator.requests
        if got.operation != "token"
    }
    assert len(tokens) == 2
    ours = "\n".join(str(record.__dict__) for record in caplog.records)
    assert "tried again" in ours
    assert not any(value in ours for value in (*tokens, secret))


async def test_no_repr_shows_a_secret(emulator):
    async with RawServer(answer(PACKAGE)) as server:
        credentials = ClientCredentials("id", SECRET, token_url=server.url)
        static = StaticToken(TOKEN)
        async with ITwinSession(static, base_url=server.url) as itwin:
            await itwin.packages.get_package("P")
            things = [
                credentials,
                static,
                Token(TOKEN, 5),
                itwin,
                itwin.stats,
                itwin.limiter,
                itwin.extensions.list_extensions(search="canary"),
                Link(href=f"https://blob.example/f?sig={SIGNED}"),
                ExtensionFile(download_url=f"https://blob.example/f?sig={SIGNED}"),
                Extension(id="1", name="n"),
            ]
            assert "canary" not in "".join(f"{thing!r}{thing!s}" for thing in things)


@pytest.mark.parametrize("bad", [TOKEN + "\n", TOKEN + " x", "é" + TOKEN])
def test_a_refused_token_is_not_shown(bad):
    for make in (Token, StaticToken):
        with pytest.raises(ValueError, match="token") as caught:
            make(bad)
        assert "canary" not in str(caught.value)


def test_a_refused_secret_or_address_is_not_shown():
    for keywords in (
        {"client_secret": 5, "client_id": TOKEN},
        {"client_secret": "  ", "client_id": TOKEN},
        {"client_secret": SECRET, "client_id": ""},
        {"client_secret": SECRET, "client_id": "i", "token_url": f"ftp://x.example/{TOKEN}"},
        {"client_secret": SECRET, "client_id": "i", "token_url": f"https://u:{TOKEN}@x.example"},
    ):
        with pytest.raises((TypeError, ValueError)) as caught:
            ClientCredentials(**keywords)
        assert "canary" not in str(caught.value)


async def test_an_error_holds_no_live_object():
    async with (
        RawServer(answer(b"{}", status="404 X")) as server,
        ITwinSession(StaticToken(TOKEN), base_url=server.url) as itwin,
    ):
        with pytest.raises(ITwinError) as caught:
            await itwin.packages.get_package("P")
    error = caught.value.with_traceback(None)
    assert error.__cause__ is None
    held = [type(value).__module__ for value in gc.get_referents(error, *vars(error).values())]
    assert not [name for name in held if name.startswith(("aiohttp", "asyncio", ssl.__name__))]
