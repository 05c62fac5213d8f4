"""One rule for waits on the network: a limit on waiting, not on progress, nor on a blocked loop."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager

import pytest
from support import PACKAGE, Clock, RawServer, answer, head, session_at, until

from itwin_async import ClientCredentials, ITwinSession, Retry, ServerError, TransportError
from itwin_async._aio.timeouts import Timeout
from itwin_async._http.transport import Transport

ONCE = Retry(attempts=1)
PADDED = PACKAGE[:-1] + b" " * (8 * 1_024 - len(PACKAGE)) + b"}"


class Steps:
    """A body that goes out piece by piece, as the test says; the clock moves between them."""

    def __init__(self, text: bytes, first: bytes) -> None:
        self.text = text
        self.first = first
        self.ready = asyncio.Semaphore(0)
        self.sent = 0

    async def __call__(self, connection) -> None:
        await connection.request()
        await connection.send(self.first)
        for size in self.sizes:
            await self.ready.acquire()
            await connection.send(self.text[self.sent : self.sent + size])
            self.sent += size

    async def go(self, itwin: ITwinSession, clock: Clock, sizes: list[int], seconds: float):
        """Each piece comes ``seconds`` after the one before it."""
        self.sizes = sizes
        call = asyncio.create_task(itwin.packages.get_package("P"))
        transport = itwin._executor._transport
        await until(lambda: transport.open_responses or call.done(), 1_000)
        for _ in sizes:
            before = itwin.stats.bytes_received
            clock.forward(seconds)
            self.ready.release()
            await until(lambda before=before: itwin.stats.bytes_received > before or call.done(), 9)
            if call.done():
                break
        return await call


async def test_a_body_that_makes_progress_is_never_timed_out():
    steps = Steps(PADDED, head(f"Content-Length: {len(PADDED)}"))
    async with RawServer(steps) as server, session_at(server, retry=ONCE, timeout=60) as itwin:
        with Clock() as clock:
            package = await steps.go(itwin, clock, [1_024] * 8, 50.0)
    assert package.unique_name == "P"


async def test_a_body_of_less_than_1024_bytes_in_the_time_is_timed_out():
    steps = Steps(PADDED, head(f"Content-Length: {len(PADDED)}"))
    async with RawServer(steps) as server, session_at(server, retry=ONCE, timeout=60) as itwin:
        with Clock() as clock, pytest.raises(TransportError, match=r"1,024 bytes") as caught:
            await steps.go(itwin, clock, [100] * 20, 25.0)
    assert caught.value.reason == "timeout"
    assert steps.sent <= 600


async def drip(connection) -> None:
    """A body that comes byte by byte, for ever."""
    await connection.request()
    await connection.send(head("Content-Length: 100000", status="503 X"))
    while True:
        await connection.send(b" ")
        await asyncio.sleep(0.005)


async def test_an_error_body_that_drips_is_an_error_by_its_status():
    async with RawServer(drip) as server, session_at(server, retry=ONCE, timeout=0.1) as itwin:
        async with asyncio.timeout(20):
            with pytest.raises(ServerError) as caught:
                await itwin.packages.get_package("P")
    assert caught.value.status == 503


async def test_a_token_answer_that_drips_ends_at_the_timeout():
    async def dripping(connection) -> None:
        await connection.request()
        await connection.send(head("Content-Length: 100000"))
        while True:
            await connection.send(b" ")
            await asyncio.sleep(0.005)

    async with RawServer(dripping) as server:
        credentials = ClientCredentials("id", "secret", token_url=f"{server.url}/token")
        async with ITwinSession(credentials, base_url=server.url, retry=ONCE, timeout=0.1) as itwin:
            async with asyncio.timeout(20):
                with pytest.raises(TransportError) as caught:
                    await itwin.packages.get_package("P")
    assert caught.value.reason == "timeout"


async def test_requests_in_turn_share_one_timer(monkeypatch):
    loop = asyncio.get_running_loop()
    text, timers = PACKAGE[:-1] + b" " * 200_000 + b"}", []
    call_at = loop.call_at

    def counted(when, callback, *args, **options):
        if getattr(callback, "__qualname__", "").startswith("Timeout."):
            timers.append(callback)
        return call_at(when, callback, *args, **options)

    async def slowly(connection) -> None:
        while True:
            await connection.request()
            await connection.send(head(f"Content-Length: {len(text)}"))
            for at in range(0, len(text), 5_000):
                await asyncio.sleep(0.001)
                await connection.send(text[at : at + 5_000])

    monkeypatch.setattr(loop, "call_at", counted)
    async with RawServer(slowly) as server, session_at(server, retry=ONCE) as itwin:
        await itwin.packages.get_package("P")
        assert len(timers) == 2  # the token's is among them
        timers.clear()
        await itwin.packages.get_package("P")
    assert not timers  # it is that of the request before


async def test_a_timeout_is_not_shared_with_a_wait_that_was_closed():
    async def stalls(connection) -> None:
        await connection.request()
        await connection.send(head("Content-Length: 10"))
        await connection.request()

    async with RawServer(stalls) as server:
        transport = Transport(None, timeout=10.0, max_body=1_000)
        transport.binding.check("test")
        response = await transport.open("GET", "127.0.0.1", f"{server.url}/", {})
        used, waiting = response._timeout, asyncio.create_task(response.read())
        await asyncio.sleep(0)
        response.close()
        other = await transport.open("GET", "127.0.0.1", f"{server.url}/", {})
        assert other._timeout is not used
        with pytest.raises(TransportError):
            await waiting
        await transport.aclose()


# A loop that was busy at the deadline


@contextmanager
def served_by_a_thread(handle: Callable[[socket.socket, threading.Event], None]):
    """A server that goes on while the loop is blocked; the event is set by the test."""
    listening = socket.create_server(("127.0.0.1", 0))
    blocked = threading.Event()

    def serve() -> None:
        connection, _ = listening.accept()
        with connection:
            handle(connection, blocked)

    thread = threading.Thread(target=serve)
    thread.start()

    class Served:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        event = blocked

    try:
        yield Served
    finally:
        blocked.set()
        thread.join(10)
        listening.close()
    assert not thread.is_alive()


def read_request(connection: socket.socket) -> None:
    text = b""
    while b"\r\n\r\n" not in text:
        text += connection.recv(65_536)


TIMEOUT = 0.2
WHOLE = answer(PADDED, "Connection: close")


@pytest.mark.parametrize("first", [0, 20, len(WHOLE) - len(PADDED), len(WHOLE) - 500])
@pytest.mark.parametrize("write", [False, True])
async def test_what_arrived_while_the_loop_was_blocked_is_read_before_its_deadline_counts(
    first, write
):
    """Nothing of the answer, a part of its head, its head, or all but its end came before."""
    asked = threading.Event()

    def handle(connection: socket.socket, blocked: threading.Event) -> None:
        read_request(connection)
        connection.sendall(WHOLE[:first])
        asked.set()
        blocked.wait(10)
        connection.sendall(WHOLE[first:])

    with served_by_a_thread(handle) as served:
        async with session_at(served, retry=ONCE, timeout=TIMEOUT) as itwin:
            method = "POST" if write else "GET"
            call = asyncio.create_task(itwin.request(method, "/packages/P"))
            while not asked.is_set():
                await asyncio.sleep(0)
            for _ in range(20):
                await asyncio.sleep(0)
            served.event.set()
            time.sleep(1.5 * TIMEOUT)
            assert (await call)["uniqueName"] == "P"
            assert itwin.stats.requests == 1


async def test_a_silent_server_is_a_timeout_however_busy_the_loop_is():
    async def silent(connection) -> None:
        await connection.gone()

    async with RawServer(silent) as server, session_at(server, retry=ONCE, timeout=0.05) as itwin:
        call = asyncio.create_task(itwin.packages.get_package("P"))
        turns = 0
        while not call.done():
            time.sleep(0.02)
            await asyncio.sleep(0)
            turns += 1
            assert turns < 100
        with pytest.raises(TransportError) as caught:
            await call
    assert caught.value.reason == "timeout"


async def test_a_token_that_came_while_the_loop_was_blocked_is_used():
    async with RawServer(answer(PACKAGE)) as server:
        loop = asyncio.get_running_loop()
        asked = loop.create_future()
        token = loop.create_future()

        async def provider() -> str:
            asked.set_result(None)
            return await token

        async with ITwinSession(provider, base_url=server.url, timeout=TIMEOUT) as itwin:
            call = asyncio.create_task(itwin.packages.get_package("P"))
            await asked
            await asyncio.sleep(0)
            loop.call_soon_threadsafe(token.set_result, "token")
            time.sleep(1.5 * TIMEOUT)
            assert (await call).unique_name == "P"


async def test_time_in_a_blocked_loop_lengthens_a_wait_once_and_by_its_limit_at_most():
    timeout = Timeout(10.0, "late")
    began = asyncio.get_running_loop().time()
    with Clock() as clock:

        async def wait() -> None:
            with timeout:
                await asyncio.Event().wait()

        waiting = asyncio.create_task(wait())
        await asyncio.sleep(0)
        clock.forward(1_000)
        for _ in range(50):
            await asyncio.sleep(0)
        assert not waiting.done()
        clock.forward(11)
        with pytest.raises(TransportError, match="late"):
            await waiting
    assert asyncio.get_running_loop().time() - began < 10
