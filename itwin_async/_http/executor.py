"""The one loop: token, slot, attempt, decode. Whatever goes to the platform goes through here."""

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any, Final, NoReturn, TypeVar

from itwin_async._core.operation import Request
from itwin_async._core.redaction import one_line
from itwin_async._core.secrets import SecretStr, SecretStrs
from itwin_async._core.urls import Origin
from itwin_async._http.body import Body, LiveBody, read_whole
from itwin_async._http.external import DEFAULT_RETRY_AFTER, LONGEST_PAUSE, ExternalClient
from itwin_async._http.instrumentation import Instrumentation, OperationSpan
from itwin_async._http.lifecycle import SessionLifecycle
from itwin_async._http.outages import Outages, Probe
from itwin_async._http.rate_limiter import RateLimiter, Slot
from itwin_async._http.retrying import read_error, retry_after, wait_before_retry
from itwin_async._http.token_cache import TokenCache
from itwin_async._http.transport import Response, Transport
from itwin_async.auth import Token, TokenSource
from itwin_async.errors import (
    ITwinError,
    RateLimitError,
    ResponseError,
    TransportError,
    UnauthorizedError,
)
from itwin_async.events import OnEvent
from itwin_async.retries import Retry, RetryState

T = TypeVar("T")
R = TypeVar("R")


class RequestExecutor:
    """What the session's groups and lists share. State of one event loop and one process."""

    def __init__(
        self,
        source: TokenSource,
        base: Origin,
        transport: Transport,
        limiter: RateLimiter,
        retry: Retry,
        *,
        user_agent: str,
        on_event: OnEvent | None,
        allow_plain_http: bool,
    ) -> None:
        self.base: Final = base
        self.base_url: Final = str(base)
        self.limiter: Final = limiter
        self.retry: Final = retry
        self.instrumentation: Final = Instrumentation(on_event)
        self.tokens: Final = TokenCache(source)
        self.lifecycle: Final = SessionLifecycle(transport, self.tokens)
        self._transport = transport
        outages = Outages(retry, self.instrumentation)
        self.breaker: Final = outages.of(self.base_url)
        self._pauses_in_a_row = 0  # without a success between them
        self._user_agent = user_agent
        self.external: Final = ExternalClient(
            self.lifecycle,
            transport,
            self.instrumentation,
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

    async def execute_decoded(self, request: Request[T]) -> T:
        """A request's answer, whole and decoded."""

        async def decoded(body: Body) -> T:
            return request.operation.decode(await read_whole(body), body)

        return await self.execute(request, decoded)

    async def execute(
        self,
        request: Request[Any],
        finish: Callable[[LiveBody], Awaitable[R]],
        attempts: RetryState | None = None,
    ) -> R:
        """Try a request until ``finish`` made something of its body; the slot is free afterwards.

        ``finish`` may leave the body open; then it is closed by whoever has it. ``attempts`` goes
        on counting where an earlier run of the same request stopped.
        """
        if attempts is None:
            attempts = RetryState(self.retry, request.operation.method)
        denied: Token | None = None
        throttle: RateLimitError | None = None
        failure: ITwinError | None = None
        operation = str(request.operation)
        span = self.instrumentation.start_span(operation)
        try:
            while True:
                body: LiveBody | None = None
                probe: Probe | None = None
                slot: Slot | None = None
                with self.lifecycle.scope():
                    try:
                        probe = await self._wait_for_outage(attempts, operation, span)
                        slot, token = await self._enter(attempts, span, operation, throttle)
                        if probe is None and self.breaker.open:
                            slot.release(sent=False)  # it began while we queued: nobody waits for
                            continue  # its end in a slot
                        try:
                            body = await self.attempt(request, operation, token, slot, span)
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
                        self.tokens.invalidate(token)
                        if (await self._token(attempts)).value == token.value:
                            failure.outcome_unknown = attempts.outcome_unknown(failure)
                            raise failure  # noqa: TRY301 - caught below only to be told
                    else:
                        await self.wait_before_retry(attempts, failure)
        except BaseException as error:
            if span is not None:
                span.end(error)
            raise
        finally:
            failure = throttle = None  # they lead to frames with bodies, and to this frame

    async def wait_before_retry(self, attempts: RetryState, failure: ITwinError) -> None:
        """Wait until a failed request may be tried again; raise the failure if it may not."""
        await wait_before_retry(attempts, failure, self.breaker, self.instrumentation)

    async def _wait_for_outage(
        self, attempts: RetryState, operation: str, span: OperationSpan | None
    ) -> Probe | None:
        if not self.breaker.open:
            return None
        since = time.monotonic()
        try:
            return await self.breaker.enter(attempts, operation)
        finally:
            if span is not None:
                span.waited += time.monotonic() - since

    async def _token(self, attempts: RetryState) -> Token:
        try:
            return await self.tokens.get(self.external)
        except ITwinError as error:  # this call's own object
            error.outcome_unknown = error.outcome_unknown or attempts.doubted
            raise

    async def _enter(
        self,
        attempts: RetryState,
        span: OperationSpan | None,
        operation: str,
        throttle: RateLimitError | None,
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
            closed_before, since = limiter.total_paused(), time.monotonic()
            try:
                slot = await limiter.acquire(
                    retry.max_retry_after, retry.max_throttled - attempts.throttled
                )
            except RateLimitError as turned_away:
                failure = throttle or turned_away
                failure.retry_after = turned_away.retry_after
                failure.operation = failure.operation or operation
                failure.outcome_unknown = attempts.outcome_unknown(failure)
                _tell_wait(failure, attempts.throttled + limiter.total_paused() - closed_before)
                raise failure from None
            finally:
                attempts.throttled += limiter.total_paused() - closed_before
                if span is not None:
                    span.waited += time.monotonic() - since
            usable = self.tokens.ready(self.external, asyncio.get_running_loop().time())
            if usable is not None or last_look:
                return slot, usable or token
            slot.release(sent=False)  # it ended while we queued; nobody waits for a token in a slot
        raise AssertionError("unreachable")

    async def attempt(
        self,
        request: Request[Any],
        operation: str,
        token: Token,
        slot: Slot,
        span: OperationSpan | None,
    ) -> LiveBody:
        """Send a request once; the body of a success, an `ITwinError` for everything else."""
        request_id = str(uuid.uuid4())
        since = self.instrumentation.sent(span)
        try:
            response = await self._transport.open(
                request.operation.method,
                self.base.host,
                self.base_url + request.target,
                {
                    **request.headers,
                    "Authorization": SecretStr(f"{token.scheme} {token.value}"),
                    "User-Agent": self._user_agent,
                    "X-Correlation-Id": request_id,
                },
                request.body,
            )
        except TransportError as error:
            error.request_id = request_id
            self.instrumentation.answered(operation, 0, since, request_id, span)
            raise
        finally:
            slot.on_response()
        request_id = _correlated(response, request_id)
        status = response.status
        self.instrumentation.answered(operation, status, since, request_id, span)
        if status < 500 and status != 407:  # that is a proxy's
            self.breaker.answered()
        if 200 <= status < 300:
            return LiveBody(
                self.lifecycle,
                self.limiter,
                self.instrumentation,
                response,
                token,
                slot,
                request_id,
                span,
            )
        if status == 429:
            self.instrumentation.throttled(span)
            self._on_throttle(operation, retry_after(response), request_id)
        refusal = await read_error(response, self.base, secrets=SecretStrs((token.value,)))
        refusal.operation, refusal.request_id = operation, request_id
        if isinstance(refusal, ResponseError):
            refusal.path = one_line(request.target.partition("?")[0])
        raise refusal

    def _on_throttle(self, operation: str, asked: float | None, request_id: str) -> None:
        """Close the door for everybody, before the rest of the answer is read."""
        # A door that closes for no time would be a loop without end.
        seconds = asked or max(DEFAULT_RETRY_AFTER, self.retry.backoff(self._pauses_in_a_row + 1))
        seconds = min(seconds, LONGEST_PAUSE)
        if self.limiter.pause(seconds):
            self._pauses_in_a_row += 1
            self.instrumentation.paused(operation, seconds, request_id)


def _correlated(response: Response, sent: str) -> str:
    """The id by which the platform knows a request: the one that was sent, or its own."""
    echoed = response.headers.get("X-Correlation-Id")
    return one_line(echoed, longest=100) if echoed and echoed != sent else sent


def _tell_wait(error: RateLimitError, seconds: float) -> None:
    if seconds >= 0.05:
        error.message = f"{error.message} (waited {seconds:.1f} s)"
        error.args = (error.message,)
