"""The server for the answer of a browser, where clients misbehave."""

import asyncio
import contextlib

import pytest
from sign_in_host import can_listen, free_port
from support import until

from itwin_async._http import loopback
from itwin_async._http.loopback import LoopbackServer


def address(port: int) -> str:
    return f"http://127.0.0.1:{port}/callback"


async def connected(port: int, count: int) -> list[asyncio.StreamWriter]:
    return [(await asyncio.open_connection("127.0.0.1", port))[1] for _ in range(count)]


async def fetched(port: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(b"GET /callback?code=1 HTTP/1.1\r\n\r\n")
        return await reader.readuntil(b"</html>")  # who closes first keeps the port busy
    except (asyncio.IncompleteReadError, ConnectionError):
        return b""
    finally:
        writer.close()


async def test_no_more_than_32_connections_are_open_at_once():
    port = free_port()
    server = LoopbackServer(address(port), lambda _: ("Signed in", "Thank you."))
    await server.start()
    async with server:
        idle = await connected(port, 32)
        await until(lambda: len(server._connections) == 32)
        assert await fetched(port) == b""
        for writer in idle:
            writer.close()
        await until(lambda: not server._connections)
        assert b"200 OK" in await fetched(port)
        await server.wait()
    assert can_listen(address(port))


async def test_connections_that_stay_open_are_cut_when_it_ends():
    port = free_port()
    server = LoopbackServer(address(port), lambda _: None)
    await server.start()
    with contextlib.suppress(LookupError):
        async with server:
            (writer,) = await connected(port, 1)
            await until(lambda: server._connections)
            raise LookupError
    await until(lambda: not server._connections)
    writer.close()
    assert can_listen(address(port))


async def test_a_browser_that_keeps_its_side_open_gets_the_page_and_is_cut(monkeypatch):
    monkeypatch.setattr(loopback, "_TURN", 0.01)
    monkeypatch.setattr(loopback, "_LINGER", 0.01)
    port = free_port()
    server = LoopbackServer(address(port), lambda _: ("Signed in", "Thank you."))
    await server.start()
    async with server:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /callback?code=1 HTTP/1.1\r\n\r\nand more than a request")
        assert b"200 OK" in await reader.readuntil(b"</html>")
        await server.wait()
        await until(lambda: not server._connections)
        writer.close()


@pytest.mark.parametrize(
    ("uri", "hosts"),
    [
        ("http://localhost:1/c", ["127.0.0.1", "::1"]),
        ("http://app.localhost:1/c", ["127.0.0.1", "::1"]),
        ("http://127.0.0.1:1/c", ["127.0.0.1"]),
        ("http://[::1]:1/c", ["::1"]),
    ],
)
def test_a_name_of_loopback_is_both_addresses(uri, hosts):
    assert loopback._addresses(LoopbackServer(uri, lambda _: None)._origin) == hosts


def test_an_address_that_is_relative_cannot_be_listened_on():
    with pytest.raises(ValueError, match="absolute URL"):
        LoopbackServer("/callback", lambda _: None)
