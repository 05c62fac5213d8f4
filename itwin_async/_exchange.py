"""The one loop: token, slot, attempt, decode. Whatever goes to the platform goes through here."""

import asyncio
import contextlib
import logging
import os
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NoReturn, Protocol, Self, TypeAlias, TypeVar
from urllib.parse import quote_plus, unquote

import anyio
import msgspec

from itwin_async._answers import parse_retry_after, refusal
from itwin_async._interrupt import Interruptible
from itwin_async._links import Origin, split
from itwin_async._operation import NOT_DECODED, Request
from itwin_async._tokens import Tokens
from itwin_async._transport import Answer, Transport
from itwin_async.auth import Token, TokenSource
from itwin_async.errors import (
    DecodeError,
    ITwinError,
    LinkError,
    RateLimitError,
    TransportError,
    UnauthorizedError,
    one_line,
)
from itwin_async.events import Event, OnEvent, Paused, Renewed, Requested, Retried, Stats
from itwin_async.limits import Limiter, Slot
from itwin_async.retries import Attempts, Budget, Retry

_LEFT_TO_THE_PARENT: Final[list[Transport]] = []
T = TypeVar("T")
R = TypeVar("R")
_logger = logging.getLogger("itwin_async")
_REFUSAL: Final = 65_536  # bytes of an error's body that are read
_SHOWN: Final = {"grant_type", "scope", "client_id", "redirect_uri"}  # of a form, when refused
SIGNED: Final = "GET (signed URL)"  # what an error of a download says it was
_UNTOLD: Final = 1.0  # seconds to wait at least where a 429 does not say
_LONGEST_PAUSE: Final = 86_400.0  # seconds; no rate limit of the platform looks further back
CLOSED: Final = "this ITwinSession is closed: make a new one"


class Body(Protocol):
    """The body of a success, pulled piece by piece."""

    request_id: str

    @property
    def content_type(self) -> str:
        """What the answer says it is, fit to be shown."""
        ...

    async def pull(self) -> bytes:
        """The next piece, empty at the end."""
        ...

    def close(self) -> None:
        """Be done with it, now."""
        ...


Pull: TypeAlias = Callable[[], Awaitable[bytes]]
"""Gives the next piece of a body, empty at its end."""


class LiveBody:
    """A body on its way. Outside its attempt each pull takes a slot, and none between pulls."""

    __slots__ = ("_answer", "_exchange", "_token", "request_id", "slot")

    def __init__(
        self, exchange: "Exchange", answer: Answer, token: Token, slot: Slot, request_id: str
    ) -> None:
        self._exchange = exchange
        self._answer = answer
        self._token = token
        self.slot: Slot | None = slot
        self.request_id = request_id

    @property
    def content_type(self) -> str:
        """What the answer says it is, fit to be shown."""
        said = self._answer.headers.get("Content-Type", "")
        return one_line(said, longest=80, secrets=(self._token.value,))

    async def pull(self) -> bytes:
        """The next piece, empty at the end."""
        if self.slot is not None:
            return self._exchange.received(await self._answer.read())
        with self._exchange.running():
            slot = await self._exchange.limiter.acquire_read()
            try:
                return self._exchange.received(await self._answer.read())
            finally:
                slot.release()

    def close(self) -> None:
        """Cut the connection if the body is not in."""
        self._answer.close()


async def read_whole(body: Body, check: Callable[[int], None] | None = None) -> bytes:
    """All of a body; ``check`` is told its size so far, and may raise."""
    pieces: list[bytes] = []
    size = 0
    while piece := await body.pull():
        pieces.append(piece)
        size += len(piece)
        if check is not None:
            check(size)
    return b"".join(pieces) if len(pieces) != 1 else pieces[0]


def _retry_after(answer: Answer) -> float | None:
    headers = answer.headers
    return parse_retry_after(headers.get("Retry-After"), headers.get("Date"), time.time())


class Owned(Protocol):
    """Something in the background that ends with the session."""

    def drop(self) -> None:
        """End now."""
        ...


@dataclass(slots=True)
class _Counts:
    requests: int = 0
    retries: int = 0
    throttled: int = 0
    pauses: int = 0
    renewals: int = 0
    bytes_received: int = 0


class _Running(Interruptible):
    """A call under way: closing the session ends it with `RuntimeError`, never in silence."""

    __slots__ = ("_exchange",)

    def __init__(self, exchange: "Exchange") -> None:
        self._exchange = exchange

    def __enter__(self) -> Self:
        self._exchange.check_open()
        super().__enter__()
        self._exchange.calls.add(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        self._exchange.calls.discard(self)
        super().__exit__(kind, *error)
        if self._exchange.closed and kind is not None and issubclass(kind, TransportError):
            raise RuntimeError(CLOSED) from None


class Exchange:
    """What the session's groups and lists share. State of one event loop and one process."""

    def __init__(
        self,
        source: TokenSource,
        base: Origin,
        transport: Transport,
        limiter: Limiter,
        retry: Retry,
        *,
        user_agent: str,
        buffer_bytes: int,
        on_event: OnEvent | None,
    ) -> None:
        self.base: Final = base
        self.base_url: Final = str(base)
        self.limiter: Final = limiter
        self.retry: Final = retry
        self.buffer_bytes: Final = buffer_bytes
        self.guessed_bytes: int = 0  # what read-ahead holds or has set aside
        self.owned: set[Owned] = set()
        self.calls: set[Interruptible] = set()
        self.closed: bool = False
        self.tokens: Final = Tokens(source)
        self.timeout: Final = transport.timeout
        self._transport = transport
        self._budget = Budget()
        self._pauses_in_a_row = 0  # without a success between them
        self._counts = _Counts()
        self._user_agent = user_agent
        self._on_event = on_event
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pid = os.getpid()

    # What a call is made of

    async def call(self, request: Request[T]) -> T:
        """A request's answer, whole and decoded."""

        async def decoded(body: Body) -> T:
            return request.operation.decode(await read_whole(body), body)

        return await self.run(request, decoded)

    async def run(
        self,
        request: Request[Any],
        finish: Callable[[LiveBody], Awaitable[R]],
        attempts: Attempts | None = None,
    ) -> R:
        """Try a request until ``finish`` made something of its body; the slot is free afterwards.

        ``finish`` may leave the body open; then it is closed by whoever has it. ``attempts`` goes
        on counting where an earlier run of the same request stopped.
        """
        if attempts is None:
            attempts = Attempts(self.retry, request.operation.method)
        refused: Token | None = None
        throttle: RateLimitError | None = None
        failure: ITwinError | None = None
        try:
            while True:
                body: LiveBody | None = None
                with self.running():
                    slot, token = await self._enter(str(request.operation), attempts, throttle)
                    try:
                        body = await self.attempt(request, token, slot)
                        made = await finish(body)
                    except ITwinError as error:
                        failure = error
                    except BaseException:
                        if body is not None:
                            body.close()
                        raise
                    else:
                        body.slot = None
                        self._budget.succeeded()
                        self._pauses_in_a_row = 0
                        return made
                    finally:
                        slot.release()
                    if body is not None:
                        body.close()
                        failure.request_id = failure.request_id or body.request_id
                    failure.operation = failure.operation or str(request.operation)
                    if isinstance(failure, RateLimitError):
                        throttle = failure  # the door is closed: wait there, as everybody does
                    elif isinstance(failure, UnauthorizedError) and refused is None:
                        refused = token
                        self.tokens.drop(token)
                        if (await self.tokens.get(self)).value == token.value:
                            failure.may_have_happened = attempts.in_doubt(failure)
                            raise failure
                    else:
                        await self.again(attempts, failure)
        finally:
            failure = throttle = None  # they lead to this frame, which must not lead back

    async def again(self, attempts: Attempts, failure: ITwinError) -> None:
        """Wait until a failed request may be tried again; raise the failure if it may not."""
        delay = attempts.delay(failure, self._budget)
        now = asyncio.get_running_loop().time()
        if delay is None or now + delay > anyio.current_effective_deadline():
            failure.may_have_happened = attempts.in_doubt(failure)
            try:
                raise failure
            finally:
                del failure  # it leads to this frame, which must not lead back
        self._counts.retries += 1
        reason = failure.reason if isinstance(failure, TransportError) else str(failure)
        _logger.info(
            "%s is tried again in %.2f s after fault %d: %s",
            failure.operation, delay, attempts.faults, reason,
        )  # fmt: skip
        if self._on_event:
            self._tell(
                Retried(failure.operation or "", attempts.faults, delay, reason, failure.request_id)
            )
        await asyncio.sleep(delay)

    async def _enter(
        self, operation: str, attempts: Attempts, throttle: RateLimitError | None
    ) -> tuple[Slot, Token]:
        """A slot and a token that can be used while it is held."""
        limiter, retry = self.limiter, self.retry
        for last_look in (False, True):
            token = await self.tokens.get(self)
            slot = limiter.acquire_now()
            if slot is not None:
                return slot, token
            closed_before = limiter.closed_so_far()
            try:
                slot = await limiter.acquire(
                    retry.max_retry_after, retry.max_throttled - attempts.throttled
                )
            except RateLimitError as turned_away:
                attempts.throttled += limiter.closed_so_far() - closed_before
                self._give_up(operation, attempts, throttle, turned_away)
            attempts.throttled += limiter.closed_so_far() - closed_before
            usable = self.tokens.ready(self, asyncio.get_running_loop().time())
            if usable is not None or last_look:
                return slot, usable or token
            slot.release(sent=False)  # it ended while we queued; nobody waits for a token in a slot
        raise AssertionError("unreachable")

    def _give_up(
        self,
        operation: str,
        attempts: Attempts,
        throttle: RateLimitError | None,
        turned_away: RateLimitError,
    ) -> NoReturn:
        error = throttle or turned_away
        error.retry_after = turned_away.retry_after
        error.operation = error.operation or operation
        error.may_have_happened = attempts.in_doubt(error)
        if attempts.throttled >= 0.05:
            error.message = f"{error.message} (waited {attempts.throttled:.1f} s)"
            error.args = (error.message,)
        raise error from None

    async def attempt(self, request: Request[Any], token: Token, slot: Slot) -> LiveBody:
        """Send a request once; the body of a success, an `ITwinError` for everything else."""
        request_id = str(uuid.uuid4())
        operation = request.operation
        self._counts.requests += 1
        since = time.monotonic()
        try:
            answer = await self._transport.open(
                operation.method,
                self.base.host,
                self.base_url + request.target,
                {
                    **request.headers,
                    "Authorization": f"Bearer {token.value}",
                    "User-Agent": self._user_agent,
                    "X-Correlation-Id": request_id,
                },
                request.body,
            )
        except TransportError as error:
            error.request_id = request_id
            self._answered(operation, 0, since, request_id)
            raise
        finally:
            slot.answered()
        echoed = answer.headers.get("X-Correlation-Id")
        if echoed and echoed != request_id:
            request_id = one_line(echoed, longest=100)
        status = answer.status
        self._answered(operation, status, since, request_id)
        if 200 <= status < 300:
            return LiveBody(self, answer, token, slot, request_id)
        if status == 429:
            self._throttled(str(operation), _retry_after(answer), request_id)
        refused = await self._refused(answer, self.base, secrets=(token.value,))
        refused.operation, refused.request_id = str(operation), request_id
        raise refused

    def _answered(self, operation: object, status: int, since: float, request_id: str) -> None:
        if _logger.isEnabledFor(logging.DEBUG):
            _logger.debug("%s was answered %d (request %s)", operation, status, request_id)
        if self._on_event:
            seconds = time.monotonic() - since
            self._tell(Requested(str(operation), status, seconds, request_id))

    async def _refused(
        self, answer: Answer, origin: Origin, *, secrets: tuple[str, ...], kind: Any = None
    ) -> ITwinError:
        """The error that an answer of this origin is, read as far as it is worth it."""
        text = bytearray()
        try:
            while len(text) < _REFUSAL and (piece := await answer.read()):
                text += piece
        except TransportError:
            pass  # the status says enough
        finally:
            answer.close()
        location = answer.headers.get("Location")
        if 300 <= answer.status < 400 and location is not None:
            parts = split(location)
            if parts is not None and parts[0] != origin:
                return LinkError(f"a redirect leads to another origin, {parts[0]}")
            if parts is None and not (location.startswith("/") and not location.startswith("//")):
                return LinkError("a redirect leads to what is not an http(s) URL with a plain host")
        retry_after = _retry_after(answer)
        return refusal(answer.status, bytes(text), retry_after, secrets=secrets, kind=kind)

    def _throttled(self, operation: str, asked: float | None, request_id: str) -> None:
        """Close the door for everybody, before the rest of the answer is read."""
        self._counts.throttled += 1
        # A door that closes for no time would be a loop without end.
        seconds = asked or max(_UNTOLD, self.retry.backoff(self._pauses_in_a_row + 1))
        seconds = min(seconds, _LONGEST_PAUSE)
        if self.limiter.pause(seconds):
            self._counts.pauses += 1
            self._pauses_in_a_row += 1
            _logger.warning("%s was throttled: all pause for %.1f s", operation, seconds)
            if self._on_event:
                self._tell(Paused(operation, seconds, request_id))

    # What a token provider is lent

    async def post(self, url: str, form: Mapping[str, str]) -> object:
        """Post a form to a sign-in host, outside the limiter; the decoded JSON of a success."""
        parts = split(url)
        if parts is None:
            raise ValueError("the token endpoint is not an absolute URL")
        attempts = Attempts(self.retry, "GET")  # asking for a token twice does no harm
        while True:
            try:
                return await self._post_once(parts, dict(form))
            except ITwinError as error:
                error.operation = "token"
                await self._again_elsewhere(attempts, error)

    async def _again_elsewhere(self, attempts: Attempts, error: ITwinError) -> None:
        """Like `again`, for a host that is not the platform: its 429 closes no door."""
        retry = self.retry
        if not isinstance(error, RateLimitError):
            return await self.again(attempts, error)
        self._counts.throttled += 1
        wait = error.retry_after or _UNTOLD
        attempts.throttled += wait
        deadline = anyio.current_effective_deadline() - asyncio.get_running_loop().time()
        if wait > min(retry.max_retry_after, deadline) or attempts.throttled > retry.max_throttled:
            raise error
        return await asyncio.sleep(wait)

    async def _post_once(self, parts: tuple[Origin, str], form: dict[str, str]) -> object:
        origin, target = parts
        headers = {"Accept": "application/json", "User-Agent": self._user_agent}
        answer = await self._transport.open("POST", origin.host, f"{origin}{target}", headers, form)
        if not 200 <= answer.status < 300:
            refused = 400 <= answer.status < 500 and answer.status not in {408, 425, 429}
            kind = UnauthorizedError if refused else None
            said = [form[name] for name in form.keys() - _SHOWN]
            secrets = (*said, *(quote_plus(secret) for secret in said))
            error = await self._refused(answer, origin, secrets=secrets, kind=kind)
            error.message = f"the sign-in host {origin.host} refused: {error.message}"
            error.args = (error.message,)
            raise error
        text = bytearray()
        try:
            while len(text) < _REFUSAL and (piece := await answer.read()):
                text += piece
        finally:
            answer.close()
        try:
            return msgspec.json.decode(text)
        except NOT_DECODED:
            raise DecodeError("the token endpoint's answer is not JSON") from None

    # What is not the platform's own: files behind signed URLs

    async def fetch(self, url: tuple[Origin, str], finish: Callable[[Pull], Awaitable[R]]) -> R:
        """Get a signed URL, without the token, until ``finish`` made something of its body.

        Each attempt has a slot of the limiter. Its pace and its door are the platform's, and do not
        concern another host.
        """
        attempts = Attempts(self.retry, "GET")
        while True:
            with self.running():
                try:
                    made = await self._fetch_once(*url, finish)
                except ITwinError as error:
                    error.operation = SIGNED
                    await self._again_elsewhere(attempts, error)
                else:
                    self._budget.succeeded()
                    self._pauses_in_a_row = 0
                    return made

    async def _fetch_once(
        self, origin: Origin, target: str, finish: Callable[[Pull], Awaitable[R]]
    ) -> R:
        request_id = str(uuid.uuid4())
        headers = {
            "Accept-Encoding": "identity",  # a checksum is that of the bytes as they are stored
            "User-Agent": self._user_agent,
            "X-Correlation-Id": request_id,
        }
        answer: Answer | None = None
        slot = await self.limiter.acquire_read()
        try:
            self._counts.requests += 1
            since = time.monotonic()
            answer = opened = await self._transport.open(
                "GET", origin.host, f"{origin}{target}", headers
            )
            self._answered(SIGNED, answer.status, since, request_id)
            if not 200 <= answer.status < 300:
                raise await self._refused(answer, origin, secrets=_secrets(target))

            async def pull() -> bytes:
                return self.received(await opened.read())

            return await finish(pull)
        except ITwinError as error:
            error.request_id = request_id
            raise
        finally:
            if answer is not None:
                answer.close()
            slot.release()

    # Telling

    @property
    def stats(self) -> Stats:
        """The counts as they are now."""
        counts = self._counts
        return Stats(
            counts.requests, counts.retries, counts.throttled, counts.pauses, counts.renewals,
            counts.bytes_received,
        )  # fmt: skip

    def received(self, piece: bytes) -> bytes:
        """Count a piece of a body."""
        self._counts.bytes_received += len(piece)
        return piece

    def renewed(self, token: Token) -> None:
        """Count a new token."""
        self._counts.renewals += 1
        _logger.debug("A token was fetched")
        if self._on_event:
            self._tell(Renewed(token.expires_in))

    def _tell(self, event: Event) -> None:
        if self._on_event is not None:
            try:
                self._on_event(event)
            except Exception:
                _logger.exception("on_event failed; the request goes on")

    # Life

    def running(self) -> _Running:
        """Mark a stretch of a call, so that closing the session ends it."""
        return _Running(self)

    def check_open(self) -> None:
        """`RuntimeError` in one sentence when the session cannot be used from here."""
        if self.closed:
            raise RuntimeError(CLOSED)
        if self._pid != os.getpid():
            raise RuntimeError("this ITwinSession was made before a fork: make one per process")
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            if self._loop is not None:
                raise RuntimeError(
                    "this ITwinSession belongs to another event loop: make one per loop"
                )
            self._loop = loop

    def _end(self) -> None:
        self.closed = True
        self.tokens.close()
        for thing in list(self.owned):
            thing.drop()

    def abandon(self) -> None:
        """Close at once, without a loop to wait in: nobody can be waiting for this session."""
        if self._pid != os.getpid():
            self.closed = True
            _LEFT_TO_THE_PARENT.append(self._transport)  # closing here would close it there
        elif not self.closed:
            self._end()
            self._transport.abandon()

    def __del__(self) -> None:
        # Nobody has the session, a group or a list any more. (There is no cycle, so this is now.)
        with contextlib.suppress(Exception):
            self.abandon()

    async def aclose(self) -> None:
        """Close: running calls raise `RuntimeError`. Doing it twice is fine."""
        if self.closed:
            return
        if self._pid != os.getpid() or (self._loop is not None and self._loop.is_closed()):
            self.abandon()
            return
        if self._loop is not None:
            self.check_open()
        self._end()
        for call in list(self.calls):
            call.interrupt(RuntimeError(CLOSED))
        await self._transport.aclose()


def _secrets(target: str) -> tuple[str, ...]:
    """What must not be shown of a signed URL: its query, and each value in it."""
    query = target.partition("?")[2]
    values = [pair.partition("=")[2] for pair in query.split("&")]
    return (query, *values, *map(unquote, values))
