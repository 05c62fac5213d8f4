"""An answer goes to the socket whole, or as broken as the faults want it."""

import asyncio
import functools
import socket
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import msgspec
from aiohttp import web

from itwin_async.emulator._access import throttled
from itwin_async.emulator._answers import Answer, error
from itwin_async.emulator._faults import (
    Cut,
    Edit,
    Fault,
    Garbage,
    RequestRecord,
    Reset,
    Slow,
    Status,
    Throttle,
    attempt,
    given,
)
from itwin_async.emulator._routes import Route

_PIECE: Final = 1 << 17
_FLUSH: Final = 0.05
_LINGER: Final = struct.pack("ii", 1, 0)

# The documented codes of errors that any operation may give; of the others nothing is known.
_CODES: Final = {
    401: ("Unauthorized", "Access denied due to invalid access_token."),
    403: ("InsufficientPermissions", "The user has insufficient permissions."),
    413: ("RequestTooLarge", "The request is too large."),
    429: (
        "TooManyRequests",
        "More requests were received than the subscription rate-limit allows.",
    ),
}


def _status_answer(fault: Status, route: Route | None) -> Answer:
    status, body, code = fault.status, fault.body, fault.code
    answer = _error_of(status, code, route) if body is None else Answer(status=status, data=body)
    if isinstance(body, str):
        answer = Answer(status=status, raw=body.encode(), content_type="text/plain")
    elif isinstance(body, bytes):
        answer = Answer(status=status, raw=body)
    headers = answer.headers if fault.headers is None else fault.headers
    if status == 429 and fault.headers is None:
        headers = throttled(route, 1).headers
    return replace(answer, headers=headers)


def _error_of(status: int, code: str | None, route: Route | None) -> Answer:
    if status < 400:
        return Answer(status=status)
    if route is not None and route.name == "token":
        usual = "server_error" if status >= 500 else "invalid_client"
        return Answer(status=status, data={"error": code or usual})
    usual, message = _CODES.get(status, ("Unknown", "The request failed."))
    if status == 429 and code is None:
        return throttled(route, 1)
    return error(status, code or usual, message)


def overriding(faults: Sequence[Fault], route: Route | None) -> Answer | None:
    """The answer that takes the place of the operation, which is then not performed."""
    for fault in faults:
        match fault:
            case Status():
                return _status_answer(fault, route)
            case Throttle():
                return throttled(route, fault.retry_after)
            case Garbage():
                return Answer(status=fault.status, raw=fault.body, content_type=fault.content_type)
            case Reset(after_request=False):
                return Answer(status=204)
            case _:
                pass
    return None


def _changed(answer: Answer, function: Callable[[Any], Any]) -> Answer:
    # A copy, so that an edit never changes what the emulator keeps.
    is_json = answer.data is not None or answer.pieces is not None
    mine: Any = msgspec.json.decode(encode(answer)) if is_json else answer.raw
    result = given(function(mine))
    result = mine if result is None else result
    if result is None or isinstance(result, bytes):
        return replace(answer, data=None, raw=result, pieces=None)
    # Encoded now, while it is known whose fault it is if that fails.
    data = msgspec.Raw(msgspec.json.encode(result))
    return replace(answer, data=data, raw=None, pieces=None)


def edited(answer: Answer, faults: Sequence[Fault], record: RequestRecord) -> Answer:
    """The answer after all edits; one that fails is a `BrokenFaultError`."""
    for fault in faults:
        if not isinstance(fault, Edit):
            continue
        if fault.function is not None:
            change = functools.partial(_changed, function=fault.function)
            answer = attempt(change, answer, "edit", fault.function, record)
        headers = {**answer.headers, **(fault.headers or {})}
        answer = replace(answer, status=fault.status or answer.status, headers=headers)
    return answer


def encode(answer: Answer) -> bytes:
    """The bytes of the body."""
    if answer.raw is not None:
        return answer.raw
    if answer.pieces is not None:
        return b"".join(answer.pieces())
    return b"" if answer.data is None else msgspec.json.encode(answer.data)


async def _encode_gently(answer: Answer) -> bytes | bytearray:
    if answer.pieces is None:
        return encode(answer)
    body = bytearray()
    for piece in answer.pieces():
        body += piece
        await asyncio.sleep(0)
    return body


def _reset(transport: asyncio.Transport) -> None:
    found = transport.get_extra_info("socket")
    if found is not None:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER)
    transport.abort()


async def send(
    request: web.BaseRequest, answer: Answer, headers: Mapping[str, str], faults: Sequence[Fault]
) -> web.StreamResponse:
    """Send the answer through the faults; a connection that is gone raises."""
    transport = request.transport
    if transport is None:
        raise ConnectionResetError("the client is gone")
    if any(isinstance(fault, Reset) for fault in faults):
        _reset(transport)
        raise ConnectionResetError("reset by a fault")
    body = await _encode_gently(answer)
    every = {**answer.headers, **headers}
    if body:
        every.setdefault("Content-Type", answer.content_type)
    cut = next((fault for fault in faults if isinstance(fault, Cut)), None)
    slow = next((fault for fault in faults if isinstance(fault, Slow)), None)
    if cut is None and slow is None and len(body) <= _PIECE:
        whole = web.Response(status=answer.status, headers=every, body=body)
        await whole.prepare(request)
        await whole.write_eof()
        return whole
    response = web.StreamResponse(status=answer.status, headers=every)
    response.content_length = len(body)
    await response.prepare(request)
    there = 0 if request.method == "HEAD" else len(body)
    end = there if cut is None else min(cut.after_bytes, there)
    piece = _PIECE if slow is None else slow.chunk
    view = memoryview(body)
    for start in range(0, end, piece):
        part = view[start : min(end, start + piece)]
        await response.write(part)
        if slow is not None:
            await asyncio.sleep(len(part) / slow.bytes_per_second)
    if cut is None:
        await response.write_eof()
        return response
    if cut.reset:
        # A reset throws away what was not sent yet.
        while transport.get_write_buffer_size():  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(_FLUSH)
        await asyncio.sleep(_FLUSH)
        _reset(transport)
    else:
        transport.close()
    raise ConnectionResetError("cut by a fault")
