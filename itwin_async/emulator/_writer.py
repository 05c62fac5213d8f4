"""Writes a response to the socket, whole or as broken as its faults want it."""

import asyncio
import socket
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, TypeVar

from aiohttp import web

from itwin_async.emulator._faults.inject import encode_body
from itwin_async.emulator._faults.types import Cut, Fault, Reset, Slow
from itwin_async.emulator._response import Response

_T = TypeVar("_T")
_CHUNK: Final = 1 << 17  # bytes of one write
_FLUSH_WAIT: Final = 0.05  # seconds
_LINGER_ZERO: Final = struct.pack("ii", 1, 0)  # closing sends a reset


def _first(faults: Sequence[Fault], kind: type[_T]) -> _T | None:
    return next((fault for fault in faults if isinstance(fault, kind)), None)


async def _encode_in_turns(response: Response) -> bytes | bytearray:
    """The bytes of the body; the loop has its turn after each piece."""
    if response.chunks is None:
        return encode_body(response)
    body = bytearray()
    for chunk in response.chunks():
        body += chunk
        await asyncio.sleep(0)
    return body


def _reset(transport: asyncio.Transport) -> None:
    connection = transport.get_extra_info("socket")
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
    transport.abort()


async def write_response(
    request: web.BaseRequest,
    response: Response,
    headers: Mapping[str, str],
    faults: Sequence[Fault],
) -> web.StreamResponse:
    """Send the response through the faults; a connection that is gone raises."""
    transport = request.transport
    if transport is None:
        raise ConnectionResetError("the client is gone")
    if _first(faults, Reset) is not None:
        _reset(transport)
        raise ConnectionResetError("reset by a fault")
    pieces: Iterable[bytes | bytearray]
    if response.length is not None and response.chunks is not None:
        size, pieces = response.length, response.chunks()
    else:
        body = await _encode_in_turns(response)
        size, pieces = len(body), (body,)
    all_headers = {**response.headers, **headers}
    if size:
        all_headers.setdefault("Content-Type", response.content_type)
    cut, slow = _first(faults, Cut), _first(faults, Slow)
    if cut is None and slow is None and size <= _CHUNK:
        body = b"".join(pieces)
        whole = web.Response(status=response.status, headers=all_headers, body=body)
        await whole.prepare(request)
        await whole.write_eof()
        return whole
    stream = web.StreamResponse(status=response.status, headers=all_headers)
    stream.content_length = size
    await stream.prepare(request)
    end = 0 if request.method == "HEAD" else size if cut is None else min(cut.after_bytes, size)
    await _write_body(stream, pieces, end, slow)
    if cut is None:
        await stream.write_eof()
        return stream
    if cut.reset:
        await _flush(transport)
        _reset(transport)
    else:
        transport.close()
    raise ConnectionResetError("cut by a fault")


async def _write_body(
    stream: web.StreamResponse, pieces: Iterable[bytes | bytearray], end: int, slow: Slow | None
) -> None:
    """Write the first ``end`` bytes."""
    size = _CHUNK if slow is None else slow.chunk
    for piece in pieces:
        if not end:
            return
        body = memoryview(piece)[:end]
        end -= len(body)
        for start in range(0, len(body), size):
            chunk = body[start : start + size]
            await stream.write(chunk)
            if slow is not None:
                await asyncio.sleep(len(chunk) / slow.bytes_per_second)


async def _flush(transport: asyncio.Transport) -> None:
    """Wait until all is sent, and a moment for the client to read: a reset drops the rest."""
    while transport.get_write_buffer_size():  # noqa: ASYNC110 - there is no event for it
        await asyncio.sleep(_FLUSH_WAIT)
    await asyncio.sleep(_FLUSH_WAIT)
