"""Executes requests to the platform: token, limiter slot, send, retry, decode.

Every request of a session goes through here; `external` has those to other hosts.
"""

import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from functools import partial
from typing import Any, Final, NoReturn, TypeVar

from itwin_async._core.headers import merge_headers
from itwin_async._core.operation import Operation, Request
from itwin_async._core.redaction import one_line
from itwin_async._core.secrets import SecretDict, SecretStrs
from itwin_async._core.urls import Origin
from itwin_async._http.admission import Admission
from itwin_async._http.advice import advise, for_base
from itwin_async._http.body import Body, LiveBody, read_whole
from itwin_async._http.external import ExternalClient
from itwin_async._http.headers import RequestHeaders
from itwin_async._http.instrumentation import Instrumentation, OperationSpan
from itwin_async._http.lifecycle import SessionLifecycle
from itwin_async._http.outages import Outages, Probe
from itwin_async._http.rate_limiter import RateLimiter, Slot
from itwin_async._http.response import Response
from itwin_async._http.retrying import read_error, retry_after, wait_before_retry
from itwin_async._http.token_cache import TokenCache
from itwin_async._http.transport import Transport
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
    """Executes the requests of a session. Belongs to one event loop and one process."""

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
        self.tokens: Final = TokenCache(
            source, timeout=transport.timeout, on_renewed=self.instrumentation.token_renewed
        )
        self.lifecycle: Final = SessionLifecycle(transport, self.tokens)
        self.headers: Final[Mapping[str, str]] = SecretDict()  # sent with each request
        self.timeout: Final = transport.timeout
        self._transport = transport
        self._advice = for_base(base)
        outages = Outages(retry, self.instrumentation)
        self.breaker: Final = outages.of(self.base_url)
        self._headers = RequestHeaders(user_agent)
        self.external: Final = ExternalClient(
            self.lifecycle,
            transport,
            self.instrumentation,
            limiter,
            retry,
            outages,
            self.base_url,
            self._headers,
            allow_plain_http=allow_plain_http,
        )
        self._admission = Admission(self.tokens, self.external, limiter, self.instrumentation)

    def with_options(
        self, timeout: float | None, retry: Retry | None, headers: Mapping[str, str]
    ) -> "RequestExecutor":
        """An executor with options of its own that shares all else; None leaves one as it is."""
        options = {
            "timeout": self.timeout if timeout is None else timeout,
            "retry": retry or self.retry,
            "headers": merge_headers(self.headers, headers),
        }
        executor = object.__new__(RequestExecutor)
        vars(executor).update({**vars(self), **options})
        return executor

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "what belongs to an ITwinSession does not pickle: make a session in each process"
        )

    def execute_decoded(self, request: Request[T]) -> Coroutine[Any, Any, T]:
        """Execute a request and decode the whole body of its response."""
        return self.execute(request, partial(_read_decoded, request.operation))

    async def execute(
        self,
        request: Request[Any],
        handle: Callable[[LiveBody], Awaitable[R]],
        retry_state: RetryState | None = None,
    ) -> R:
        """Send a request, again after faults, until ``handle`` returns what it read of the body.

        The slot is free afterwards. ``handle`` may leave the body open for whoever keeps it;
        ``retry_state`` goes on counting where an earlier execution of the same request stopped.
        """
        if retry_state is None:
            retry_state = RetryState(self.retry, request.operation.method)
        rejected: Token | None = None  # by a 401
        throttle: RateLimitError | None = None
        failure: ITwinError | None = None
        operation = str(request.operation)
        span = self.instrumentation.start_span(operation)
        breaker = self.breaker
        try:
            while True:
                body: LiveBody | None = None
                probe: Probe | None = None
                slot: Slot | None = None
                with self.lifecycle.scope():
                    try:
                        if breaker.open:
                            probe = await self._wait_for_outage(retry_state, operation, span)
                        slot, token = (
                            self._admission.acquire_now()
                            or await self._admission.acquire(retry_state, span, operation, throttle)
                        )
                        if probe is None and breaker.open:
                            # An outage began meanwhile, which is waited for without a slot.
                            slot.release(sent=False)
                            continue
                        try:
                            body = await self.attempt(request, operation, token, slot, span)
                            result = await handle(body)
                        except ITwinError as error:
                            failure = error
                        else:
                            body.detach()
                            self._admission.consecutive_pauses = 0
                            return result
                        if body is None:
                            breaker.on_failure(failure, request.target, retry_state, probe)
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
                        throttle = failure  # the limiter is paused: the next slot comes after it
                    elif isinstance(failure, UnauthorizedError) and rejected is None:
                        rejected = token
                        self.tokens.invalidate(token)
                        if (await self._admission.token(retry_state)).value == token.value:
                            failure.outcome_unknown = retry_state.outcome_unknown(failure)
                            raise failure  # noqa: TRY301 - caught below only for the span
                    else:
                        await self.wait_before_retry(retry_state, failure)
        except BaseException as error:
            if span is not None:
                span.end(error)
            raise
        finally:
            failure = throttle = None  # their tracebacks refer to this frame, and to bodies

    async def wait_before_retry(self, retry_state: RetryState, failure: ITwinError) -> None:
        """Wait until a failed request may be sent again; raise the failure if it may not."""
        await wait_before_retry(retry_state, failure, self.breaker, self.instrumentation)

    async def _wait_for_outage(
        self, retry_state: RetryState, operation: str, span: OperationSpan | None
    ) -> Probe | None:
        since = time.monotonic()
        try:
            return await self.breaker.enter(retry_state, operation)
        finally:
            if span is not None:
                span.waited += time.monotonic() - since

    async def attempt(
        self,
        request: Request[Any],
        operation: str,
        token: Token,
        slot: Slot,
        span: OperationSpan | None,
    ) -> LiveBody:
        """Send a request once; the body of a success, an `ITwinError` for everything else."""
        headers = request.headers
        if self.headers:
            headers = merge_headers(self.headers, headers)
        request_id = str(headers.get("X-Correlation-Id") or self._headers.next_correlation_id())
        since = self.instrumentation.request_sent(span)
        try:
            response = await self._transport.open(
                request.operation.method,
                self.base.host,
                self.base_url + request.target,
                self._headers.build(headers, token, request_id),
                request.body,
                seconds=self.timeout,
                advice=self._advice,
            )
        except TransportError as error:
            error.request_id = request_id
            self.instrumentation.response_received(operation, 0, since, request_id, span)
            raise
        finally:
            slot.on_response()
        request_id = _correlation_id(response, request_id)
        status = response.status
        self.instrumentation.response_received(operation, status, since, request_id, span)
        self.breaker.on_response(status)
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
            self._admission.pause(operation, retry_after(response), request_id, self.retry)
        secrets = SecretStrs((token.value, *request.secrets))
        proxy = self._transport.proxy
        failure = await read_error(response, self.base, secrets=secrets, proxy=proxy)
        failure.operation, failure.request_id = operation, request_id
        if isinstance(failure, ResponseError):
            advise(failure, request)
        raise failure


async def _read_decoded(operation: Operation[T], body: Body) -> T:
    return operation.decode(await read_whole(body), body)


def _correlation_id(response: Response, sent: str) -> str:
    """The id by which the platform knows a request: the one that was sent, or its own."""
    echoed = response.headers.get("X-Correlation-Id")
    return one_line(echoed, longest=100) if echoed and echoed != sent else sent
