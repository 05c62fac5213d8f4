"""The effect of faults on a response: one in its place, or a change of it."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

import msgspec

from itwin_async.emulator._api.route import Route
from itwin_async.emulator._faults.plan import call_step, check_not_awaitable
from itwin_async.emulator._faults.record import RequestRecord
from itwin_async.emulator._faults.types import Edit, Fault, Garbage, Reset, Status, Throttle
from itwin_async.emulator._rate_limit import too_many_requests
from itwin_async.emulator._response import Response, error_response

# The documented codes of errors that any operation may give; of the others nothing is known.
_ERRORS: Final = {
    401: ("Unauthorized", "Access denied due to invalid access_token."),
    403: ("InsufficientPermissions", "The user has insufficient permissions."),
    413: ("RequestTooLarge", "The request is too large."),
    429: (
        "TooManyRequests",
        "More requests were received than the subscription rate-limit allows.",
    ),
}


def _status_response(fault: Status, route: Route | None) -> Response:
    status, body = fault.status, fault.body
    if isinstance(body, str):
        response = Response(status=status, raw=body.encode(), content_type="text/plain")
    elif isinstance(body, bytes):
        response = Response(status=status, raw=body)
    elif body is None:
        response = _error_of(status, fault.code, route)
    else:
        response = Response(status=status, json=body)
    headers = response.headers if fault.headers is None else fault.headers
    if status == 429 and fault.headers is None:
        headers = too_many_requests(route, 1).headers
    return replace(response, headers=headers)


def _error_of(status: int, code: str | None, route: Route | None) -> Response:
    if status < 400:
        return Response(status=status)
    if route is not None and route.api == "connect":
        usual = "server_error" if status >= 500 else "invalid_client"
        return Response(status=status, json={"error": code or usual})
    usual, message = _ERRORS.get(status, ("Unknown", "The request failed."))
    if status == 429 and code is None:
        return too_many_requests(route, 1)
    return error_response(status, code or usual, message)


def short_circuit(faults: Sequence[Fault], route: Route | None) -> Response | None:
    """The response in place of the operation, which is then not performed."""
    for fault in faults:
        match fault:
            case Status():
                return _status_response(fault, route)
            case Throttle():
                return too_many_requests(route, fault.retry_after)
            case Garbage():
                return Response(
                    status=fault.status, raw=fault.body, content_type=fault.content_type
                )
            case Reset(after_request=False):
                return Response(status=204)
            case _:
                pass
    return None


def _edit_body(response: Response, function: Callable[[Any], Any]) -> Response:
    # A copy, so that an edit never changes what the emulator keeps.
    is_file = response.raw is not None or response.length is not None
    is_json = not is_file and (response.json is not None or response.chunks is not None)
    body: Any = encode_body(response) if is_file else None
    if is_json:
        body = msgspec.json.decode(encode_body(response))
    result = check_not_awaitable(function(body))
    result = body if result is None else result
    plain = replace(response, json=None, raw=None, chunks=None, length=None)
    if result is None or isinstance(result, bytes):
        return replace(plain, raw=result)
    # Encoded here, where a failure can still be blamed on the function.
    return replace(plain, json=msgspec.Raw(msgspec.json.encode(result)))


def apply_edits(response: Response, faults: Sequence[Fault], record: RequestRecord) -> Response:
    """The response after all edits; one that fails is a `BrokenFaultError`."""
    for fault in faults:
        if not isinstance(fault, Edit):
            continue
        if fault.function is not None:
            edit = functools.partial(_edit_body, function=fault.function)
            response = call_step(edit, response, "edit", fault.function, record)
        headers = {**response.headers, **(fault.headers or {})}
        response = replace(response, status=fault.status or response.status, headers=headers)
    return response


def encode_body(response: Response) -> bytes:
    """The bytes of the body."""
    if response.raw is not None:
        return response.raw
    if response.chunks is not None:
        return b"".join(response.chunks())
    return b"" if response.json is None else msgspec.json.encode(response.json)
