"""The one loop: token, slot, attempt, decode. Whatever goes to the platform goes through here."""

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any, Final, NoReturn, Protocol, TypeVar

from itwin_async._elsewhere import LONGEST_PAUSE, UNTOLD, Elsewhere
from itwin_async._failures import again, refused, retry_after
from itwin_async._life import Life
from itwin_async._links import Origin
from itwin_async._operation import Request
from itwin_async._outages import Outages, Probe
from itwin_async._silent import SilentStr, SilentStrs
from itwin_async._telling import Call, Telling
from itwin_async._tokens import Tokens
from itwin_async._transport import Answer, Transport
from itwin_async.auth import Token, TokenSource
from itwin_async.errors import (
    ITwinError,
    RateLimitError,
    ResponseError,
    TransportError,
    UnauthorizedError,
    one_line,
)
from itwin_async.events import OnEvent
from itwin_async.limits import Limiter, Slot
from itwin_async.retries import Attempts, Retry

T = TypeVar("T")
R = TypeVar("R")


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

    def close(self, error: BaseException | None = None) -> None:
        """Be done with it, now; ``error`` is why, None for no more need."""
        ...


class LiveBody:
    """A body on its way. Outside its attempt each pull takes a slot, and none between pulls."""

    __slots__ = ("_answer", "_call", "_exchange", "_token", "at_end", "request_id", "slot")

    def __init__(  # noqa: PLR0917 - what an attempt has in hand
        self,
        exchange: "Exchange",
        answer: Answer,
        token: Token,
        slot: Slot,
        request_id: str,
        call: Call | None,
    ) -> None:
        self._exchange = exchange
        self._answer = answer
        self._token = token
        self._call = call
        self.slot: Slot | None = slot
        self.request_id = request_id
        self.at_end = False

    @property
    def content_type(self) -> str:
        """What the answer says it is, fit to be shown."""
        said = self._answer.headers.get("Content-Type", "")
        return one_line(said, longest=80, secrets=SilentStrs((self._token.value,)))

    async def pull(self) -> bytes:
        """The next piece, empty at the end."""
        if self.slot is not None:
            return await self._read()
        call = self._call
        try:
            with self._exchange.life.running():
                since = time.monotonic()
                slot = await self._exchange.limiter.acquire_read()
                if call is not None:
                    call.waited += time.monotonic() - since
                try:
                    piece = await self._read()
                finally:
                    slot.release()
        except BaseException as error:
            if call is not None:
                call.end(error)
            raise
        if self.at_end and call is not None:
            call.end()
        return piece

    async def _read(self) -> bytes:
        piece = await self._answer.read()
        self.at_end = not piece
        return self._exchange.telling.received(piece, self._call)

    def hand_over(self) -> None:
        """The attempt is over; whoever has the body pulls the rest of it."""
        self.slot = None
        if self.at_end and self._call is not None:
            self._call.end()

    def close(self, error: BaseException | None = None) -> None:
        """Cut the connection if the body is not in; ``error`` is why, None for no more need."""
        self._answer.close()
        if self.slot is None and self._call is not None:
            self._call.end(error)


async def read_whole(body: Body, check: Callable[[int], None] | None = None) -> bytes:
    """All of a body; ``check`` is told its size so far, and may raise."""
    pieces = _Pieces()
    try:
        while pieces.add(await body.pull()):
            if check is not None:
                check(pieces.size)
    except BaseException:
        pieces.all.clear()  # the error leads here, and is kept until the next copy is in
        raise
    return b"".join(pieces.all) if len(pieces.all) != 1 else pieces.all[0]


class _Pieces:
    """A body so far: no local of a frame shows it, for it may hold signed URLs."""

    __slots__ = ("all", "size")

    def __init__(self) -> None:
        self.all: list[bytes] = []
        self.size = 0

    def add(self, piece: bytes) -> bool:
        """Whether there was one."""
        if piece:
            self.all.append(piece)
            self.size += len(piece)
        return bool(piece)


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
        allow_plain_http: bool,
    ) -> None:
        self.base: Final = base
        self.base_url: Final = str(base)
        self.limiter: Final = limiter
        self.retry: Final = retry
        self.buffer_bytes: Final = buffer_bytes
        self.guessed_bytes: int = 0  # what read-ahead holds or has set aside
        self.telling: Final = Telling(on_event)
        self.tokens: Final = Tokens(source)
        self.life: Final = Life(transport, self.tokens)
        self._transport = transport
        outages = Outages(retry, self.telling)
        self.breaker: Final = outages.of(self.base_url)
        self._pauses_in_a_row = 0  # without a success between them
        self._user_agent = user_agent
        self.elsewhere: Final = Elsewhere(
            self.life,
            transport,
            self.telling,
            limiter,
            retry,
            outages,
            self.base_url,
            user_agent,
            allow_plain_http=allow_plain_http,
        )

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "what belongs to an ITwinSession does not pickle: make a session in each process"
        )

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
        denied: Token | None = None
        throttle: RateLimitError | None = None
        failure: ITwinError | None = None
        operation = str(request.operation)
        call = self.telling.call(operation)
        try:
            while True:
                body: LiveBody | None = None
                probe: Probe | None = None
                slot: Slot | None = None
                with self.life.running():
                    try:
                        probe = await self._wait_for_outage(attempts, operation, call)
                        slot, token = await self._enter(attempts, call, operation, throttle)
                        if probe is None and self.breaker.open:
                            slot.release(sent=False)  # it began while we queued: nobody waits for
                            continue  # its end in a slot
                        try:
                            body = await self.attempt(request, operation, token, slot, call)
                            made = await finish(body)
                        except ITwinError as error:
                            failure = error
                        else:
                            body.hand_over()
                            self._pauses_in_a_row = 0
                            return made
                        if body is None:
                            self.breaker.failed(failure, request.target, attempts, probe)
                    except BaseException:
                        if body is not None:
                            body.close()
                        raise
                    finally:
                        if slot is not None:
                            slot.release()
                        if probe is not None:
                            probe.release()
                    if body is not None:
                        body.close()
                        failure.request_id = failure.request_id or body.request_id
                    failure.operation = failure.operation or operation
                    if isinstance(failure, RateLimitError):
                        throttle = failure  # the door is closed: wait there, as everybody does
                    elif isinstance(failure, UnauthorizedError) and denied is None:
                        denied = token
                        self.tokens.drop(token)
                        if (await self._token(attempts)).value == token.value:
                            failure.may_have_happened = attempts.in_doubt(failure)
                            raise failure  # noqa: TRY301 - caught below only to be told
                    else:
                        await self.again(attempts, failure)
        except BaseException as error:
            if call is not None:
                call.end(error)
            raise
        finally:
            failure = throttle = None  # they lead to frames with bodies, and to this frame

    async def again(self, attempts: Attempts, failure: ITwinError) -> None:
        """Wait until a failed request may be tried again; raise the failure if it may not."""
        await again(attempts, failure, self.breaker, self.telling)

    async def _wait_for_outage(
        self, attempts: Attempts, operation: str, call: Call | None
    ) -> Probe | None:
        if not self.breaker.open:
            return None
        since = time.monotonic()
        try:
            return await self.breaker.enter(attempts, operation)
        finally:
            if call is not None:
                call.waited += time.monotonic() - since

    async def _token(self, attempts: Attempts) -> Token:
        try:
            return await self.tokens.get(self.elsewhere)
        except ITwinError as error:  # this call's own object
            error.may_have_happened = error.may_have_happened or attempts.doubted
            raise

    async def _enter(
        self, attempts: Attempts, call: Call | None, operation: str, throttle: RateLimitError | None
    ) -> tuple[Slot, Token]:
        """A slot and a token that can be used while it is held.

        Raises ``throttle``, the 429 that this call had before, where the limiter turns it away.
        """
        limiter, retry = self.limiter, self.retry
        for last_look in (False, True):
            token = await self._token(attempts)
            slot = limiter.acquire_now()
            if slot is not None:
                return slot, token
            closed_before, since = limiter.closed_so_far(), time.monotonic()
            try:
                slot = await limiter.acquire(
                    retry.max_retry_after, retry.max_throttled - attempts.throttled
                )
            except RateLimitError as turned_away:
                failure = throttle or turned_away
                failure.retry_after = turned_away.retry_after
                failure.operation = failure.operation or operation
                failure.may_have_happened = attempts.in_doubt(failure)
                _tell_wait(failure, attempts.throttled + limiter.closed_so_far() - closed_before)
                raise failure from None
            finally:
                attempts.throttled += limiter.closed_so_far() - closed_before
                if call is not None:
                    call.waited += time.monotonic() - since
            usable = self.tokens.ready(self.elsewhere, asyncio.get_running_loop().time())
            if usable is not None or last_look:
                return slot, usable or token
            slot.release(sent=False)  # it ended while we queued; nobody waits for a token in a slot
        raise AssertionError("unreachable")

    async def attempt(
        self, request: Request[Any], operation: str, token: Token, slot: Slot, call: Call | None
    ) -> LiveBody:
        """Send a request once; the body of a success, an `ITwinError` for everything else."""
        request_id = str(uuid.uuid4())
        since = self.telling.sent(call)
        try:
            answer = await self._transport.open(
                request.operation.method,
                self.base.host,
                self.base_url + request.target,
                {
                    **request.headers,
                    "Authorization": SilentStr(f"Bearer {token.value}"),
                    "User-Agent": self._user_agent,
                    "X-Correlation-Id": request_id,
                },
                request.body,
            )
        except TransportError as error:
            error.request_id = request_id
            self.telling.answered(operation, 0, since, request_id, call)
            raise
        finally:
            slot.answered()
        request_id = _correlated(answer, request_id)
        status = answer.status
        self.telling.answered(operation, status, since, request_id, call)
        if status < 500 and status != 407:  # that is a proxy's
            self.breaker.answered()
        if 200 <= status < 300:
            return LiveBody(self, answer, token, slot, request_id, call)
        if status == 429:
            self.telling.throttled(call)
            self._throttled(operation, retry_after(answer), request_id)
        refusal = await refused(answer, self.base, secrets=SilentStrs((token.value,)))
        refusal.operation, refusal.request_id = operation, request_id
        if isinstance(refusal, ResponseError):
            refusal.path = request.target.partition("?")[0]
        raise refusal

    def _throttled(self, operation: str, asked: float | None, request_id: str) -> None:
        """Close the door for everybody, before the rest of the answer is read."""
        # A door that closes for no time would be a loop without end.
        seconds = asked or max(UNTOLD, self.retry.backoff(self._pauses_in_a_row + 1))
        seconds = min(seconds, LONGEST_PAUSE)
        if self.limiter.pause(seconds):
            self._pauses_in_a_row += 1
            self.telling.paused(operation, seconds, request_id)


def _correlated(answer: Answer, sent: str) -> str:
    """The id by which the platform knows a request: the one that was sent, or its own."""
    echoed = answer.headers.get("X-Correlation-Id")
    return one_line(echoed, longest=100) if echoed and echoed != sent else sent


def _tell_wait(error: RateLimitError, seconds: float) -> None:
    if seconds >= 0.05:
        error.message = f"{error.message} (waited {seconds:.1f} s)"
        error.args = (error.message,)
