"""The server: every request is recorded, limited, broken where planned, and answered."""

import asyncio
import contextlib
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Final, Self, cast
from urllib.parse import parse_qsl

from aiohttp import web

from itwin_async._aio.threads import completed
from itwin_async.auth import ClientCredentials
from itwin_async.emulator import _checks
from itwin_async.emulator._access import (
    CLIENT_ID,
    CLIENT_SECRET,
    RateLimit,
    Tokens,
    check_accept,
    throttled,
)
from itwin_async.emulator._answers import Answer, RefusedError, error
from itwin_async.emulator._blobs import Blobs
from itwin_async.emulator._call import Call
from itwin_async.emulator._extension_data import READY
from itwin_async.emulator._faults import (
    BrokenFaultError,
    Delay,
    Fault,
    Faults,
    RequestRecord,
    Reset,
    check_operation,
)
from itwin_async.emulator._routes import Route, find_route
from itwin_async.emulator._seed import Size
from itwin_async.emulator._sending import edited, overriding, send
from itwin_async.emulator._world import World

_CORRELATION: Final = "X-Correlation-Id"
# Clients send no token to an address that is all addresses.
_LOOPBACK: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104
_ENDINGS: Final = (asyncio.CancelledError, KeyboardInterrupt, SystemExit, GeneratorExit)


def _check_files(files: object) -> None:
    if files is None:
        return
    if not isinstance(files, Mapping):
        raise TypeError(f"files must be a mapping of str to bytes, not {_checks.kind_of(files)}")
    for name, content in cast("Mapping[object, object]", files).items():
        _checks.text("the name of a file", name)
        if not isinstance(content, bytes):
            raise TypeError(f"the content of a file must be bytes, not {_checks.kind_of(content)}")


class Emulator:
    """An iTwin Platform of your own: a real HTTP server with state, on loopback.

    Same arguments, same data, but other tokens each time. ``itwins`` counts the iTwins that are
    listed, two of them accounts; the ``imodels`` belong in turn to the others. Each iModel has so
    many ``changesets``, and every ``extended_data_every``-th of them, from the first on, has
    extended data: of ``payload_bytes`` bytes of JSON each, or small as the documented sample.
    ``extensions`` counts the public ones, and also the private ones of each account; each has so
    many ``versions``. ``packages`` counts integration packages, ``rows`` those of each of their
    entity sets. The documented examples are always among them.

    ``per_minute`` is the rate limit: no sixty seconds hold more admitted API requests. ``latency``
    is the wait in seconds before each answer of the API, ``token_lifetime`` and
    ``download_lifetime`` those of tokens and signed download addresses. A page has at most
    ``max_top`` items, and links then say so; or at most ``max_items``, while links repeat the
    ``$top`` that was asked for.

    ``requests`` are the records of all requests in the order of their arrival, ``faults`` the plan
    of what shall go wrong, ``max_in_flight`` the most API requests there ever were between their
    arrival and the last byte of their answer (token requests and downloads do not count). Without
    ``record`` nothing is kept of requests, for an emulator that runs for long.

    Raises `TypeError` or `ValueError` for what cannot be.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        per_minute: int | None = None,
        latency: float = 0.0,
        token_lifetime: float = 3600,
        download_lifetime: float = 3600,
        max_top: int | None = None,
        max_items: int | None = None,
        itwins: int = 5,
        imodels: int = 40,
        changesets: int = 100,
        extended_data_every: int = 1,
        payload_bytes: int | None = None,
        extensions: int = 300,
        versions: int = 4,
        packages: int = 12,
        rows: int = 250,
        seed: int = 0,
        record: bool = True,
    ) -> None:
        _checks.text("host", host)
        _checks.whole("port", port, 0, 65_535)
        bounds = {"per_minute": per_minute, "max_top": max_top, "max_items": max_items}
        for name, bound in bounds.items():
            _checks.whole(name, bound, 1, none=True)
        _checks.number("latency", latency)
        lifetimes = {"token_lifetime": token_lifetime, "download_lifetime": download_lifetime}
        for name, lifetime in lifetimes.items():
            _checks.number(name, lifetime, above=True)
        _checks.flag("record", record)
        size = Size(
            seed=seed,
            itwins=itwins,
            imodels=imodels,
            changesets=changesets,
            extended_data_every=extended_data_every,
            payload_bytes=payload_bytes,
            extensions=extensions,
            versions=versions,
            packages=packages,
            rows=rows,
        )
        self.faults: Faults = Faults()
        self.requests: list[RequestRecord] = []
        self.max_in_flight: int = 0
        self.latency = latency
        self._record = record
        self._address = host, port
        self._max_top, self._max_items = max_top, max_items
        self._world = World(size)
        self._blobs = Blobs(self._world, download_lifetime)
        self._tokens = Tokens(token_lifetime)
        self._limit = RateLimit(per_minute)
        self._in_flight = 0
        self._http: web.Server | None = None
        self._listener: asyncio.Server | None = None
        self._url = ""
        self._broken: BrokenFaultError | None = None

    def __repr__(self) -> str:
        listening = getattr(self, "_listener", None) is not None  # not so in its making
        return f"<Emulator {self._url if listening else 'not running'}>"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stop()
        if self._broken is not None and isinstance(problem, _ENDINGS):
            # A cancelled block stays cancelled.
            problem.add_note(self._broken.words)
            self._broken = None
        await self.aclose()

    async def start(self) -> None:
        """Listen; ``url`` is known from now on. Raises `OSError` where that is not possible."""
        if self._listener is not None:
            raise RuntimeError("the emulator is running already")
        loop = asyncio.get_running_loop()
        self._http = web.Server(self._handle, handler_cancellation=True, access_log=None)
        host, port = self._address
        listener = await loop.create_server(self._http, host, port, start_serving=False)
        try:
            await listener.start_serving()
        except BaseException:  # cancelled: nobody is going to close it
            listener.close()
            raise
        self._listener = listener
        bound, port = listener.sockets[0].getsockname()[:2]
        host = _LOOPBACK.get(bound, host)
        self._url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    async def aclose(self) -> None:
        """Stop at once, also in the middle of answers; closing twice is fine.

        Raises, once, the first error of a function in ``faults``.
        """
        await self._stop()
        broken, self._broken = self._broken, None
        if broken is not None:
            broken.problem.add_note(str(broken))
            raise broken.problem

    async def _stop(self) -> None:
        listener, http = self._listener, self._http
        if listener is None or http is None:
            return
        self._listener = None
        await completed(asyncio.create_task(self._end(listener, http)))

    async def _end(self, listener: asyncio.Server, http: web.Server) -> None:
        # asyncio fails over a connection that was accepted and has no transport yet when its
        # listener closes: it gets a few turns of the loop, and no other is accepted meanwhile.
        for each in listener.sockets:
            with contextlib.suppress(NotImplementedError):  # Windows' loop accepts otherwise
                asyncio.get_running_loop().remove_reader(each.fileno())
        for _ in range(5):
            await asyncio.sleep(0)
        listener.close()
        # The loss of its connection cancels a handler, and none shields itself: a few turns of the
        # loop are enough.
        for _ in range(100):
            for connection in http.connections:
                if connection.transport is not None:
                    connection.transport.abort()
                await asyncio.sleep(0)
        await http.shutdown(0)
        await listener.wait_closed()

    @property
    def url(self) -> str:
        """The base of the API, such as ``http://127.0.0.1:43211``."""
        if not self._url:
            raise RuntimeError("the emulator has no address before it is started")
        return self._url

    @property
    def token_url(self) -> str:
        """Where tokens come from."""
        return f"{self.url}/connect/token"

    @property
    def credentials(self) -> ClientCredentials:
        """What a session needs to get tokens here."""
        return ClientCredentials(CLIENT_ID, CLIENT_SECRET, token_url=self.token_url)

    @property
    def environment(self) -> dict[str, str]:
        """The variables that `ITwinSession.from_env` and other programs read, to be set or passed.

        They are ``ITWIN_BASE_URL``, ``ITWIN_TOKEN_URL``, ``ITWIN_CLIENT_ID`` and
        ``ITWIN_CLIENT_SECRET``.
        """
        return {
            "ITWIN_BASE_URL": self.url,
            "ITWIN_TOKEN_URL": self.token_url,
            "ITWIN_CLIENT_ID": CLIENT_ID,
            "ITWIN_CLIENT_SECRET": CLIENT_SECRET,
        }

    def count(self, operation: str) -> int:
        """How many requests of this operation arrived; `ValueError` where there is no such."""
        check_operation(operation)
        return sum(record.operation == operation for record in self.requests)

    def issue_token(self, lifetime: float | None = None) -> str:
        """A token without asking the token endpoint, of a lifetime of its own if given.

        One below zero gives a token that has ended.
        """
        if lifetime is not None:
            _checks.number("lifetime", lifetime, least=-math.inf)
        return self._tokens.issue(lifetime)

    def expire_tokens(self) -> None:
        """All tokens that were given out become invalid now."""
        self._tokens.expire()

    def throttle(self, seconds: float) -> None:
        """Answer 429 to all API requests for so long, each with the rest of it to wait."""
        _checks.number("seconds", seconds)
        self._limit.close(seconds)

    def push_changeset(self, imodel_id: str) -> int:
        """Push one more changeset without extended data; gives its index.

        Raises `ValueError` for an unknown iModel.
        """
        _checks.text("imodel_id", imodel_id)
        imodel = self._world.imodels.get(imodel_id.lower())
        if imodel is None:
            raise ValueError(f"the emulator has no iModel {imodel_id!r}")
        return self._world.push_changeset(imodel)

    def publish(
        self,
        extension_id: str,
        number: str,
        files: Mapping[str, bytes] | None = None,
        *,
        status: str = READY,
        status_message: str | None = None,
    ) -> None:
        """Put a version in this state with these files, the first of them main; makes it if new.

        Raises `ValueError` for an unknown extension.
        """
        _checks.text("extension_id", extension_id)
        if extension_id.lower() not in self._world.extensions.by_id:
            raise ValueError(f"the emulator has no extension {extension_id!r}")
        _checks.text("number", number)
        _check_files(files)
        _checks.text("status", status, empty=True)
        if status_message is not None:
            _checks.text("status_message", status_message, empty=True)
        version = self._world.extensions.publish(extension_id, number, files)
        version.status, version.message = status, status_message

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        started = time.monotonic()
        path, _, query = request.raw_path.partition("?")
        found = find_route(request.method, path)
        route, params = found or (None, {})
        too_large, body = False, b""
        try:
            body = await request.read()
        except web.HTTPRequestEntityTooLarge:
            too_large = True
        record = RequestRecord(
            operation=None if route is None else route.name,
            method=request.method,
            path=path,
            target=request.raw_path,
            query=request.rel_url.query,
            headers=request.headers,
            body=body,
            started=started,
        )
        position, status = len(self.requests), None
        if self._record:
            self.requests.append(record)
        counted = route is not None and route.serve is not None
        self._in_flight += counted
        self.max_in_flight = max(self.max_in_flight, self._in_flight)
        try:
            wait = self._limit.admit() if counted else None
            faults: Sequence[Fault] = ()
            try:
                faults = self.faults.take(record) if wait is None else ()
                for fault in faults:
                    if isinstance(fault, Delay):
                        await asyncio.sleep(fault.seconds)
                if counted and self.latency:
                    await asyncio.sleep(self.latency)
                answer = overriding(faults, route)
                if wait is not None:
                    answer = throttled(route, wait)
                elif too_large:
                    answer = error(413, "RequestTooLarge", "The request is too large.")
                elif answer is None:
                    answer = self._answer(request, route, params, query, body)
                answer = edited(answer, faults, record)
            except BrokenFaultError as broken:
                self._broken = self._broken or broken.with_traceback(None)
                # No client tries again after a 418: a 5xx would hide the mistake.
                answer, faults = error(418, "BrokenFault", broken.words), ()
            echo = request.headers.get(_CORRELATION)
            if not any(isinstance(fault, Reset) for fault in faults):
                status = answer.status
            return await send(request, answer, {_CORRELATION: echo} if echo else {}, faults)
        except ConnectionError:
            # There is nobody to answer; the HTTP library notices the same and ends quietly.
            return web.Response()
        finally:
            self._in_flight -= counted
            with contextlib.suppress(IndexError):  # the list is the user's to clear
                if self.requests[position] is record:
                    ended = time.monotonic()
                    self.requests[position] = replace(record, status=status, ended=ended)

    def _answer(
        self,
        request: web.BaseRequest,
        route: Route | None,
        params: Mapping[str, str],
        query: str,
        body: bytes,
    ) -> Answer:
        headers = request.headers
        if route is None:
            # No page says how the gateway answers to what is no operation.
            return error(404, "NotFound", "There is no such operation.")
        if route.name == "token":
            return self._tokens.answer(headers, body)
        if route.serve is None:
            return self._blobs.answer(request.raw_path, params, headers)
        refused = self._tokens.check(headers) or check_accept(route, headers)
        if refused is not None:
            return refused
        call = Call(
            world=self._world,
            blobs=self._blobs,
            params=params,
            query=tuple(parse_qsl(query, keep_blank_values=True)),
            headers=headers,
            body=body,
            origin=f"http://{request.host}",
            path=request.raw_path.partition("?")[0],
            max_top=self._max_top,
            max_items=self._max_items,
        )
        try:
            return route.serve(call)
        except RefusedError as refusal:
            return refusal.answer
