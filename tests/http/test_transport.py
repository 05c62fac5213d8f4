"""Broken HTTP of every kind ends in an error of ours, and a connection is never left open."""

import asyncio
import gzip
import random
import sys
import zlib

import aiohttp
import pytest
from fetching import ONCE, fails, once
from support import PACKAGE, Clock, RawServer, answer, chunk, head, session_at, until

from itwin_async import (
    DecodeError,
    ITwinError,
    Limiter,
    Retry,
    ServerError,
    TransportError,
)

CHUNKED = head("Transfer-Encoding: chunked")


LENGTH = f"Content-Length: {len(PACKAGE)}"


# What is not HTTP

MALFORMED = {
    "garbage": b"\x00\xff\x13garbage\r\n\r\n",
    "another protocol": b"SSH-2.0-OpenSSH_9.6\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\n",
    "HTTP/0.9": b"<html>hello</html>\r\n\r\n",
    "no status": b"HTTP/1.1\r\n\r\n",
    "a word for a status": b"HTTP/1.1 OK fine\r\n\r\n",
    "a long status": b"HTTP/1.1 2000 X\r\n\r\n",
    "a negative status": b"HTTP/1.1 -20 X\r\n\r\n",
    "a header of 20 KB": head("X: " + "a" * 20_000, LENGTH) + PACKAGE,
    "two lengths": head("Content-Length: 1", "Content-Length: 2") + PACKAGE,
    "a length and chunks": head(LENGTH, "Transfer-Encoding: chunked") + PACKAGE,
    "a negative length": head("Content-Length: -1") + PACKAGE,
    "a word for a length": head("Content-Length: many") + PACKAGE,
    "a huge length": head("Content-Length: " + "9" * 5_000) + PACKAGE,
    "a header without a colon": head("rubbish") + PACKAGE,
    "a header with NUL": head("X: a\x00b", LENGTH) + PACKAGE,
    "a space before the colon": head("X : a", LENGTH) + PACKAGE,
}


@pytest.mark.parametrize("text", MALFORMED.values(), ids=MALFORMED)
async def test_what_is_not_http_is_a_transport_error_and_no_refusal(text):
    error = await fails(once(text))
    assert type(error) is TransportError
    assert error.reason == "malformed"
    assert "127.0.0.1" in str(error)
    assert error.__cause__ is None


async def test_a_connection_closed_before_the_answer_is_a_reset():
    assert (await fails(once())).reason == "reset"


async def test_a_connection_reset_before_the_answer_is_a_reset():
    assert (await fails(once(reset=True))).reason == "reset"


async def test_a_connection_closed_within_the_head_is_a_reset():
    assert (await fails(once(b"HTTP/1.1 200 OK\r\nContent-"))).reason == "reset"


async def test_a_silent_server_is_a_timeout():
    async def silent(connection) -> None:
        await connection.gone()

    error = await fails(silent, timeout=0.05)
    assert error.reason == "timeout"
    assert "127.0.0.1" in str(error)


async def test_a_head_that_drips_is_a_timeout():
    async def drip_headers(connection) -> None:
        await connection.request()
        await connection.send(b"HTTP/1.1 200 OK\r\n")
        for n in range(10_000):
            await connection.send(b"X-%d: a\r\n" % n)
            await asyncio.sleep(0.01)

    assert (await fails(drip_headers, timeout=0.1)).reason == "timeout"


# Bodies that do not come whole

CUT = {
    "a short length": [head("Content-Length: 999"), PACKAGE],
    "no byte of a length": [head("Content-Length: 999")],
    "no last chunk": [CHUNKED, chunk(PACKAGE)],
    "half a chunk": [CHUNKED, chunk(PACKAGE)[:-9]],
    "half a chunk's size": [CHUNKED, b"1"],
    "a bad chunk size": [CHUNKED, b"zz\r\nabc\r\n0\r\n\r\n"],
    "a chunk longer than it says": [CHUNKED, b"1\r\nabcdef\r\n0\r\n\r\n"],
    "a negative chunk": [CHUNKED, b"-1\r\nabc\r\n0\r\n\r\n"],
}


@pytest.mark.parametrize("reset", [False, True], ids=["FIN", "RST"])
@pytest.mark.parametrize("pieces", CUT.values(), ids=CUT)
async def test_a_body_cut_short_is_a_transport_error(pieces, reset):
    error = await fails(once(*pieces, reset=reset))
    assert type(error) is TransportError
    assert error.reason in {"cut", "malformed"}


@pytest.mark.parametrize("pieces", CUT.values(), ids=CUT)
async def test_a_body_cut_short_is_asked_for_again(pieces):
    cut = b"".join(pieces)

    async def handler(connection) -> None:
        await connection.request()
        await connection.send(cut if connection.number == 0 else answer(PACKAGE))

    async with (
        RawServer(handler) as server,
        session_at(server, retry=Retry(attempts=2, base=0)) as itwin,
    ):
        assert (await itwin.packages.get_package("P")).unique_name == "P"
        assert len(server.requests) == 2


async def test_a_cut_body_without_a_length_shows_in_its_json():
    assert type(await fails(once(head("Connection: close"), PACKAGE[:-5]))) is DecodeError


PACKED = gzip.compress(PACKAGE)


BADLY_PACKED = {
    "no gzip": ("gzip", PACKAGE),
    "bad checksum": ("gzip", PACKED[:-8] + b"\x00" * 8),
    "junk behind": ("gzip", PACKED + b"junk"),
    "no deflate": ("deflate", b"\xff" * 40),
    "a broken middle": ("gzip", PACKED[:14] + b"\xff\xff\xff" + PACKED[17:]),
    "no brotli": ("br", b"\xff" * 40),
    "no zstd": ("zstd", b"\xff" * 40),
    "cut data": ("gzip", PACKED[:-20]),
    "nothing": ("gzip", b"\x1f"),
}


@pytest.mark.parametrize(("coding", "body"), BADLY_PACKED.values(), ids=BADLY_PACKED)
async def test_a_badly_packed_body_is_an_error_of_ours(coding, body):
    error = await fails(once(answer(body, f"Content-Encoding: {coding}")))
    assert isinstance(error, TransportError | DecodeError)


@pytest.mark.parametrize(
    "name", [name for name in BADLY_PACKED if name not in {"no brotli", "no zstd"}]
)
async def test_a_badly_packed_refusal_keeps_its_status(name):
    coding, body = BADLY_PACKED[name]
    broken = head(f"Content-Length: {len(body)}", f"Content-Encoding: {coding}", status="503 X")
    error = await fails(once(broken, body))
    assert type(error) is ServerError
    assert str(error).isprintable()


async def test_a_coding_nobody_knows_is_an_error_of_ours_or_read_as_it_is():
    error = await fails(once(answer(b"\x00\x01", "Content-Encoding: snappy")))
    assert isinstance(error, TransportError | DecodeError)


# What well-behaved but odd servers send

UNUSUAL = {
    "HTTP/1.0": b"HTTP/1.0 200 OK\r\n\r\n" + PACKAGE,
    "no reason": b"HTTP/1.1 200 \r\nconnection: close\r\n\r\n" + PACKAGE,
    "lower case": b"HTTP/1.1 200 ok\r\ncontent-length: %d\r\n\r\n" % len(PACKAGE) + PACKAGE,
    "1xx before": b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + answer(PACKAGE),
    "100 before": b"HTTP/1.1 100 Continue\r\n\r\n" + answer(PACKAGE),
    "chunks": CHUNKED + chunk(PACKAGE[:5]) + chunk(PACKAGE[5:]) + chunk(b""),
    "chunk extensions": CHUNKED + b"%x;a=b\r\n%s\r\n0;x\r\n\r\n" % (len(PACKAGE), PACKAGE),
    "trailers": CHUNKED + chunk(PACKAGE) + b"0\r\nX-Sum: 1\r\n\r\n",
    "gzip": answer(PACKED, "Content-Encoding: gzip"),
    "gzip in two members": answer(
        gzip.compress(PACKAGE[:9]) + gzip.compress(PACKAGE[9:]), "Content-Encoding: gzip"
    ),
    "deflate": answer(zlib.compress(PACKAGE), "Content-Encoding: deflate"),
    "latin-1 in a header": answer(PACKAGE, "X: caf\xe9"),
    "a broken cookie": answer(PACKAGE, "Set-Cookie: \x01=;;;==", "Set-Cookie: a=\xff"),
    "a broken type": answer(PACKAGE, "Content-Type: ;;\xff=/"),
    "a broken date": answer(PACKAGE, "Date: yesterday", "Age: -1"),
    "status 299": answer(PACKAGE, status="299 X"),
}


if sys.flags.dev_mode:
    del UNUSUAL["a broken cookie"]  # aiohttp then reads strictly, and takes no control character


@pytest.mark.parametrize("text", UNUSUAL.values(), ids=UNUSUAL)
async def test_unusual_http_is_read(text):
    async with RawServer(once(text)) as server, session_at(server, retry=ONCE) as itwin:
        assert (await itwin.packages.get_package("P")).unique_name == "P"


async def test_a_head_in_single_bytes_is_read():
    handler = once(*(bytes([byte]) for byte in answer(PACKAGE)))
    async with RawServer(handler) as server, session_at(server, retry=ONCE) as itwin:
        assert (await itwin.packages.get_package("P")).unique_name == "P"


async def test_what_follows_an_answer_is_not_the_answer_to_the_next_request():
    two = answer(PACKAGE) + answer(b"evil", status="500 X")
    async with RawServer(two) as server, session_at(server, retry=ONCE) as itwin:
        for _ in range(3):
            await itwin.packages.get_package("P")
            await asyncio.sleep(0.01)


async def test_an_upgrade_nobody_asked_for_ends_in_an_error_of_ours():
    switch = head("Upgrade: websocket", "Connection: upgrade", status="101 Switching Protocols")
    await fails(once(switch, b"\x81\x00"), timeout=0.5)


async def test_http_with_random_damage_never_raises_what_is_not_ours():
    dice = random.Random(7)
    whole = CHUNKED[:-2] + b"Content-Encoding: gzip\r\nX-Correlation-Id: abc\r\n\r\n"
    whole += chunk(PACKED[:20]) + chunk(PACKED[20:]) + chunk(b"")
    texts = []
    for _ in range(80):
        text = bytearray(whole)
        for _ in range(dice.randint(1, 3)):
            at = dice.randrange(len(text))
            text[at : at + dice.randint(0, 3)] = dice.randbytes(dice.randint(0, 3))
        texts.append(bytes(text))

    async def handler(connection) -> None:
        await connection.request()
        await connection.send(texts[len(server.requests) - 1])

    outcomes = {"fine": 0, "wrong": 0}
    async with RawServer(handler) as server, session_at(server, retry=ONCE, timeout=2) as itwin:
        for _ in texts:
            try:
                await itwin.packages.get_package("P")
                outcomes["fine"] += 1
            except ITwinError as error:
                assert str(error).isprintable()
                outcomes["wrong"] += 1
    assert min(outcomes.values()) > 0


# Too much, too slow


def bomb(size: int) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    zeros = b" " * (1 << 20)
    return b"".join(packer.compress(zeros) for _ in range(size >> 20)) + packer.flush()


async def test_a_bomb_ends_at_max_body():
    packed = bomb(64 << 20)
    text = head(f"Content-Length: {len(packed)}", "Content-Encoding: gzip")
    async with (
        RawServer(once(text, packed)) as server,
        session_at(server, max_body=1 << 20) as itwin,
    ):
        with pytest.raises(TransportError, match="1048576") as caught:
            await itwin.packages.get_package("P")
        assert caught.value.reason == "too large"
        assert itwin.stats.bytes_received < 3 << 20
        assert len(server.requests) == 1
        await until(lambda: server.open == 0)


async def test_a_bomb_as_a_refusal_is_not_unpacked():
    packed = bomb(64 << 20)
    text = head(f"Content-Length: {len(packed)}", "Content-Encoding: gzip", status="400 X")
    assert (await fails(once(text, packed))).status == 400


async def test_an_endless_body_ends_at_max_body():
    async def endless(connection) -> None:
        await connection.request()
        await connection.send(CHUNKED)
        while True:
            await connection.send(chunk(b" " * 65_536))

    error = await fails(endless, max_body=1 << 20, retry=Retry())
    assert error.reason == "too large"


async def test_a_body_of_exactly_max_body_is_read():
    async with RawServer(answer(PACKAGE)) as server:
        async with session_at(server, max_body=len(PACKAGE)) as itwin:
            assert (await itwin.packages.get_package("P")).unique_name == "P"
        async with session_at(server, max_body=len(PACKAGE) - 1) as itwin:
            with pytest.raises(TransportError):
                await itwin.packages.get_package("P")


async def test_a_body_that_drips_ends_at_the_timeout():
    async def drip(connection) -> None:
        await connection.request()
        await connection.send(head("Content-Length: 100000"))
        for _ in range(100_000):
            await connection.send(b" ")
            await asyncio.sleep(0.01)

    assert (await fails(drip, timeout=0.15)).reason == "timeout"


async def test_the_time_for_the_body_begins_after_the_head():
    async def slowly(connection) -> None:
        await connection.request()
        await on.wait()
        await connection.send(head(LENGTH))
        await on_again.wait()
        await connection.send(PACKAGE)

    on, on_again = asyncio.Event(), asyncio.Event()
    async with RawServer(slowly) as server, session_at(server, retry=ONCE, timeout=60) as itwin:
        with Clock() as clock:
            call = asyncio.create_task(itwin.packages.get_package("P"))
            await until(lambda: server.requests, 1_000)
            clock.forward(40)
            on.set()
            await until(lambda: itwin._executor._transport.open_responses, 1_000)
            clock.forward(40)
            on_again.set()
            assert (await call).unique_name == "P"


# What we reach for inside aiohttp


async def test_the_hidden_resend_of_aiohttp_is_still_where_we_turn_it_off():
    async def reset(connection) -> None:
        await connection.request()
        connection.reset()

    seen = []
    for resend in (True, False):
        async with RawServer(reset) as server, aiohttp.ClientSession() as http:
            assert http._retry_connection is True
            http._retry_connection = resend
            with pytest.raises(aiohttp.ClientError):
                await http.delete(server.url)
            seen.append(len(server.requests))
    assert seen == [2, 1]


async def test_our_own_pool_has_the_hidden_resend_off():
    async with RawServer(answer(PACKAGE)) as server, session_at(server) as itwin:
        await itwin.packages.get_package("P")
        assert itwin._executor._transport._http._retry_connection is False


async def test_a_connector_can_still_be_closed_without_waiting():
    async with RawServer(answer(PACKAGE)) as server:
        http = aiohttp.ClientSession(connector=aiohttp.TCPConnector())
        async with http.get(server.url) as response:
            await response.read()
        connector = http.connector
        http.detach()
        connector._close(abort_ssl=True)
        assert connector.closed
        await until(lambda: server.open == 0)


async def test_what_arrived_before_a_fault_is_read_and_then_the_fault_is_raised():
    text = head("Content-Length: 999") + PACKAGE
    async with RawServer(once(text)) as server, session_at(server) as itwin:
        transport = itwin._executor._transport
        got = await transport.open("GET", "127.0.0.1", f"{server.url}/x", {})
        await until(lambda: got._response.content.exception())
        assert await got.read() == PACKAGE
        with pytest.raises(TransportError, match="cut short"):
            await got.read()


async def test_our_own_pool_is_bounded_by_the_limiter_alone():
    gate = asyncio.Event()

    async def wait(connection) -> None:
        await connection.request()
        await gate.wait()
        await connection.send(answer(PACKAGE))

    limiter = Limiter(concurrency=105)
    async with RawServer(wait) as server, session_at(server, limiter=limiter) as itwin:
        calls = [asyncio.create_task(itwin.packages.get_package("P")) for _ in range(105)]
        await until(lambda: len(server.requests) == 105)
        gate.set()
        await asyncio.gather(*calls)
