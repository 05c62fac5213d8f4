"""The path of one request: record, rate limit, faults, authorization, handler, response."""

import asyncio
import contextlib
import re
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from email.utils import format_datetime
from typing import Final
from urllib.parse import parse_qsl

from aiohttp import web

from itwin_async.emulator._api.request import Request
from itwin_async.emulator._api.route import Access, Route
from itwin_async.emulator._api.url_signing import UrlSigner
from itwin_async.emulator._arguments import check_bool, check_int, check_number
from itwin_async.emulator._faults.inject import apply_edits, short_circuit
from itwin_async.emulator._faults.plan import BrokenFaultError, Faults
from itwin_async.emulator._faults.record import RequestRecord
from itwin_async.emulator._faults.types import Delay, Fault, Reset
from itwin_async.emulator._identity.oauth import OAuthError
from itwin_async.emulator._identity.server import IdentityServer
from itwin_async.emulator._identity.users import SERVICE_USER, User
from itwin_async.emulator._rate_limit import RateLimit, too_many_requests
from itwin_async.emulator._response import RefusedError, Response, error_response, refuse
from itwin_async.emulator._routes import find_route
from itwin_async.emulator._state.state import State
from itwin_async.emulator._state.storage import MAX_UPLOADED
from itwin_async.emulator._writer import write_response

_STORAGE: Final = "/storage/"
_MAX_BODY: Final = 1 << 20  # bytes
_CORRELATION_ID: Final = "X-Correlation-Id"
_VENDOR: Final = re.compile(r"application/vnd\.bentley\.itwin-platform\.v(\d+)\+json")


@dataclass(slots=True, kw_only=True)
class Pipeline:
    """Serves requests from the state, the sign-in host, the rate limit and the plan of faults."""

    state: State
    identity: IdentityServer
    signer: UrlSigner
    rate_limit: RateLimit
    latency: float
    max_top: int | None
    max_items: int | None
    keeps_records: bool
    faults: Faults = field(default_factory=Faults)
    requests: list[RequestRecord] = field(default_factory=list[RequestRecord])
    in_flight: int = 0
    max_in_flight: int = 0
    broken: BrokenFaultError | None = None  # the first one, until it was raised

    def __post_init__(self) -> None:
        check_number("latency", self.latency)
        check_int("max_top", self.max_top, 1, optional=True)
        check_int("max_items", self.max_items, 1, optional=True)
        check_bool("record", self.keeps_records)

    async def serve(self, request: web.BaseRequest) -> web.StreamResponse:
        """Serve one request of the HTTP server."""
        started = time.monotonic()
        path = request.raw_path.partition("?")[0]
        route, params = find_route(request.method, path) or (None, {})
        body = await _read_body(request, MAX_UPLOADED if path.startswith(_STORAGE) else _MAX_BODY)
        is_too_large = body is None
        record = RequestRecord(
            operation=None if route is None else route.name,
            method=request.method,
            path=path,
            target=request.raw_path,
            query=request.rel_url.query,
            headers=request.headers,
            body=body or b"",
            started=started,
        )
        is_api = route is not None and route.is_api
        with self._recorded(record, is_api=is_api) as status:
            try:
                response, faults = await self._respond(
                    record, request.host, route, params, is_too_large=is_too_large
                )
                correlation_id = request.headers.get(_CORRELATION_ID)
                if not any(isinstance(fault, Reset) for fault in faults):
                    status.append(response.status)
                headers = {_CORRELATION_ID: correlation_id} if correlation_id else {}
                if not any(name.lower() == "date" for name in response.headers):
                    headers["Date"] = format_datetime(self.state.clock.now(), usegmt=True)
                return await write_response(request, response, headers, faults)
            except ConnectionError:
                # There is nobody to respond to; the HTTP library notices that and ends quietly.
                return web.Response()

    @contextlib.contextmanager
    def _recorded(self, record: RequestRecord, *, is_api: bool) -> Generator[list[int]]:
        """Keep the record; a status that is appended to the list, and the end, are added to it."""
        position, status = len(self.requests), list[int]()
        if self.keeps_records:
            self.requests.append(record)
        self.in_flight += is_api
        self.max_in_flight = max(self.max_in_flight, self.in_flight)
        try:
            yield status
        finally:
            self.in_flight -= is_api
            with contextlib.suppress(IndexError):  # the list is the user's to clear
                if self.requests[position] is record:
                    sent, ended = next(iter(status), None), time.monotonic()
                    self.requests[position] = replace(record, status=sent, ended=ended)

    async def _respond(
        self,
        record: RequestRecord,
        host: str,
        route: Route | None,
        params: Mapping[str, str],
        *,
        is_too_large: bool,
    ) -> tuple[Response, Sequence[Fault]]:
        """The response, and the faults that it is sent through."""
        is_api = route is not None and route.is_api
        wait = self.rate_limit.admit() if is_api else None
        try:
            faults = self.faults.take(record) if wait is None else ()
            for fault in faults:
                if isinstance(fault, Delay):
                    await asyncio.sleep(fault.seconds)
            if is_api and self.latency:
                await asyncio.sleep(self.latency)
            response = short_circuit(faults, route)
            if wait is not None:
                response = too_many_requests(route, wait)
            elif is_too_large:
                response = error_response(413, "RequestTooLarge", "The request is too large.")
            elif response is None:
                response = self._handle(record, host, route, params)
            return apply_edits(response, faults, record), faults
        except BrokenFaultError as broken:
            self.broken = self.broken or broken.with_traceback(None)
            # No client retries a 418: a 5xx would hide the mistake.
            return error_response(418, "BrokenFault", broken.summary), ()

    def _handle(
        self, record: RequestRecord, host: str, route: Route | None, params: Mapping[str, str]
    ) -> Response:
        if route is None:
            # No page says how the gateway responds to what is no operation.
            return error_response(404, "NotFound", "There is no such operation.")
        path, _, query = record.target.partition("?")
        try:
            user = SERVICE_USER
            if route.is_api:
                user = _authenticate(self.identity, record.headers)
                _check_accept(route, record.headers)
                _check_permission(user, route)
            request = Request(
                method=record.method,
                path=path,
                params=params,
                raw_query=query,
                query=tuple(parse_qsl(query, keep_blank_values=True)),
                headers=record.headers,
                body=record.body,
                origin=f"http://{host}",
                user=user,
                state=self.state,
                identity=self.identity,
                signer=self.signer,
                max_top=self.max_top,
                max_items=self.max_items,
            )
            return route.handler(request)
        except (RefusedError, OAuthError) as error:
            return error.response


async def _read_body(request: web.BaseRequest, most: int) -> bytes | None:
    """The body, or None for one of more bytes than that."""
    body = bytearray()
    async for chunk in request.content.iter_any():
        body += chunk
        if len(body) > most:
            return None
    return bytes(body)


def _authenticate(identity: IdentityServer, headers: Mapping[str, str]) -> User:
    """The user whose token was sent, or one of the three documented 401."""
    value = headers.get("Authorization")
    if value is None:
        message = "Header Authorization was not found in the request. Access denied."
        refuse(401, "HeaderNotFound", message)
    scheme, _, token = value.partition(" ")
    if scheme.lower() != "bearer":
        message = "The authorization scheme is not Bearer. Access denied."
        refuse(401, "InvalidAuthorizationScheme", message)
    user = identity.access_tokens.get(token.strip())
    if user is None:
        refuse(401, "Unauthorized", "Access denied due to invalid access_token.")
    return user


def _check_accept(route: Route, headers: Mapping[str, str]) -> None:
    """Refuse a version that the API does not have; no page says what really happens."""
    accept = headers.get("Accept", "*/*").lower()
    versions = _VENDOR.findall(accept)
    if versions and str(route.version) not in versions and "*/*" not in accept:
        message = f"This API is of version {route.version}."
        refuse(406, "InvalidHeaderValue", message, "Accept")


def _check_permission(user: User, route: Route) -> None:
    """Refuse what the user's rights do not allow."""
    allowed = {
        Access.READ: user.can_read,
        Access.FILES: user.can_download,
        Access.WRITE: user.can_write,
    }
    if not allowed.get(route.access, True):
        message = "The user has insufficient permissions for the requested operation."
        refuse(403, "InsufficientPermissions", message)
