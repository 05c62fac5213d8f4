"""Requests to other hosts than the platform: sign-in hosts, and files behind signed URLs."""

import contextlib
import time
from collections.abc import Awaitable, Callable, Generator, Mapping
from typing import Final, Literal, TypeAlias, TypeVar, cast
from urllib.parse import quote_plus, unquote

import msgspec

from itwin_async._core.json import NOT_DECODED
from itwin_async._core.secrets import SecretBytes, SecretDict, SecretStr, SecretStrs, SecretValue
from itwin_async._core.urls import Origin, secure_origin, split
from itwin_async._http.advice import explain_refusal, for_sign_in_host
from itwin_async._http.body import FileBody
from itwin_async._http.headers import RequestHeaders
from itwin_async._http.host_pauses import HostPauses
from itwin_async._http.instrumentation import Instrumentation, OperationSpan
from itwin_async._http.lifecycle import SessionLifecycle
from itwin_async._http.outages import CircuitBreaker, Outages, Probe
from itwin_async._http.rate_limiter import RateLimiter, Slot
from itwin_async._http.response import Response
from itwin_async._http.retrying import MAX_ERROR_BODY, read_error, wait_before_retry
from itwin_async._http.transport import Transport
from itwin_async.errors import (
    DecodeError,
    ITwinError,
    RateLimitError,
    TransportError,
    UnauthorizedError,
)
from itwin_async.retries import Retry, RetryState

R = TypeVar("R")
Method: TypeAlias = Literal["GET", "PUT"]
_NOT_SECRET: Final = {"grant_type", "scope", "client_id", "redirect_uri"}  # fields of a form


class SignedRequest(msgspec.Struct, frozen=True):
    """A request for a signed URL, ``origin`` and ``target``, which is sent without the token.

    ``headers`` gives the headers of the next attempt, such as those that ask for the part of a file
    that is missing; ``make_body`` what it sends: bytes or an async iterator of them. ``timeout`` is
    in seconds, the session's where None, and a response of ``max_body`` bytes is not too large.
    """

    origin: Origin
    target: str
    headers: Callable[[], Mapping[str, str]]
    method: Method = "GET"
    make_body: Callable[[], object] | None = None
    timeout: float | None = None
    max_body: int = 0

    @property
    def operation(self) -> str:
        """What errors, events and the log call it."""
        return f"{self.method} (signed URL)"


class ExternalClient:
    """Sends requests to other hosts, for token providers and downloads.

    A 429 of such a host pauses the requests to it, and not those to the platform.
    """

    def __init__(  # noqa: PLR0917 - the session's parts
        self,
        lifecycle: SessionLifecycle,
        transport: Transport,
        instrumentation: Instrumentation,
        limiter: RateLimiter,
        retry: Retry,
        outages: Outages,
        base_url: str,
        headers: RequestHeaders,
        *,
        allow_plain_http: bool,
    ) -> None:
        self.base_url: Final = base_url
        self._lifecycle = lifecycle
        self._transport = transport
        self._instrumentation = instrumentation
        self._limiter = limiter
        self._retry = retry
        self._outages = outages
        self._pauses = HostPauses()
        self._headers = headers
        self.allow_plain_http: Final = allow_plain_http
        self.max_body: Final = transport.max_body

    async def post(self, url: str, form: Mapping[str, str]) -> object:
        """Post a form to a sign-in host, outside the limiter; the decoded JSON of a success."""
        form = SecretDict(form)
        secure_origin(
            SecretValue(url), "the token endpoint", allow_plain_http=self.allow_plain_http
        )
        parts = cast("tuple[Origin, str]", split(url))
        retry_state = RetryState(self._retry, "GET")  # asking for a token twice does no harm
        with self._span("token") as span:
            breaker = self._outages.of(str(parts[0]))
            while True:
                await self._pauses.wait(parts[0], retry_state, "token")
                probe = await breaker.enter(retry_state, "token")
                try:
                    return await self._post_once(parts, form, span, breaker)
                except ITwinError as error:
                    error.operation = "token"
                    breaker.on_failure(error, parts[1], retry_state, probe)
                    failure = error
                finally:
                    if probe is not None:
                        probe.release()
                await self._wait_before_retry(parts[0], retry_state, failure, span, breaker)

    @contextlib.contextmanager
    def _span(self, operation: str) -> Generator[OperationSpan | None, None, None]:
        """The span of an operation, which ends with the block."""
        span = self._instrumentation.start_span(operation)
        try:
            yield span
        except BaseException as error:
            if span is not None:
                span.end(error)
            raise
        if span is not None:
            span.end()

    async def _wait_before_retry(
        self,
        origin: Origin,
        retry_state: RetryState,
        error: ITwinError,
        span: OperationSpan | None,
        breaker: CircuitBreaker,
    ) -> None:
        """Wait as `wait_before_retry` does; after a 429, pause the requests to its host."""
        if not isinstance(error, RateLimitError):
            return await wait_before_retry(retry_state, error, breaker, self._instrumentation)
        self._instrumentation.throttled(span)
        self._pauses.begin(origin, retry_state, error)
        return None

    async def _post_once(
        self,
        parts: tuple[Origin, str],
        form: SecretDict,
        span: OperationSpan | None,
        breaker: CircuitBreaker,
    ) -> object:
        origin, target = parts
        if span is not None:
            span.attempts += 1  # `stats.requests` counts none for tokens
        headers = {"Accept": "application/json", "User-Agent": self._headers.user_agent}
        response = await self._transport.open(
            "POST",
            origin.host,
            f"{origin}{target}",
            headers,
            form,
            advice=for_sign_in_host(origin, self.base_url),
        )
        if span is not None:
            span.status = response.status
        breaker.on_response(response.status)
        if not 200 <= response.status < 300:
            denied = 400 <= response.status < 500 and response.status not in {408, 425, 429}
            kind = UnauthorizedError if denied else None
            error = await read_error(
                response,
                origin,
                secrets=_secrets_of(form),
                proxy=self._transport.proxy,
                kind=kind,
            )
            if not isinstance(error, TransportError):
                explain_refusal(error, origin.host, form)
            raise error
        data = SecretBytes()
        try:
            while len(data) < MAX_ERROR_BODY and data.take(await response.read()):
                pass
        finally:
            response.close()
        if not data and "grant_type" not in form:
            return None  # a token was revoked
        try:
            return msgspec.json.decode(data)
        except NOT_DECODED:
            pass
        raise DecodeError("the token endpoint's answer is not JSON")

    async def fetch(
        self,
        request: SignedRequest,
        handle: Callable[[FileBody], Awaitable[R]],
        retry_state: RetryState,
    ) -> R:
        """Send a request, again after faults, until ``handle`` returns what it read of the body.

        ``retry_state`` goes on counting where an earlier fetch of the same file stopped. Each
        attempt has a slot of the limiter, whose rate windows and pauses are the platform's and do
        not concern another host.
        """
        origin, operation = request.origin, request.operation
        breaker = self._outages.of(str(origin))
        with self._span(operation) as span:
            while True:
                with self._lifecycle.scope():
                    queued = time.monotonic()
                    await self._pauses.wait(origin, retry_state, operation)
                    probe = await breaker.enter(retry_state, operation)
                    slot: Slot | None = None
                    try:
                        slot = await self._limiter.acquire_read()
                        if span is not None:
                            span.waited += time.monotonic() - queued
                        if probe is None and breaker.open:
                            continue  # an outage began meanwhile: it is waited for without a slot
                        response = await self._open_signed(
                            request, span, breaker, retry_state, probe
                        )
                        try:
                            return await handle(FileBody(response, self._instrumentation, span))
                        finally:
                            response.close()
                    except ITwinError as error:
                        error.operation = operation
                        error.request_id = error.request_id or retry_state.request_id
                        failure = error
                    finally:
                        if slot is not None:
                            slot.release()
                        if probe is not None:
                            probe.release()
                    await self._wait_before_retry(origin, retry_state, failure, span, breaker)

    async def _open_signed(
        self,
        request: SignedRequest,
        span: OperationSpan | None,
        breaker: CircuitBreaker,
        retry_state: RetryState,
        probe: Probe | None,
    ) -> Response:
        """Send a request once; the response, if it is a success."""
        origin, operation = request.origin, request.operation
        request_id = retry_state.request_id = self._headers.next_correlation_id()
        headers = {
            **request.headers(),
            "Accept-Encoding": "identity",  # a checksum is one of the stored bytes
            "User-Agent": self._headers.user_agent,
            "X-Correlation-Id": request_id,
        }
        body = None if request.make_body is None else request.make_body()
        since = self._instrumentation.request_sent(span)
        try:
            try:
                response = await self._transport.open(
                    request.method,
                    origin.host,
                    SecretStr(f"{origin}{request.target}"),
                    headers,
                    body,
                    seconds=request.timeout,
                    max_body=max(self.max_body, request.max_body),
                )
            except TransportError:
                self._instrumentation.response_received(operation, 0, since, request_id, span)
                raise
            self._instrumentation.response_received(
                operation, response.status, since, request_id, span
            )
            breaker.on_response(response.status)
            if 200 <= response.status < 300:
                return response
            secrets = _secrets_in(request.target)
            raise await read_error(response, origin, secrets=secrets, proxy=self._transport.proxy)
        except ITwinError as error:
            error.request_id = request_id
            path = request.target.partition("?")[0]
            breaker.on_failure(error, path, retry_state, probe)
            raise


def _secrets_of(form: SecretDict) -> SecretStrs:
    """The values of a form that must not be shown."""
    values = [form[name] for name in form.keys() - _NOT_SECRET]
    return SecretStrs((*values, *map(quote_plus, values)))


def _secrets_in(target: str) -> SecretStrs:
    """The parts of a signed URL that must not be shown: its query, and each value in it."""
    query = target.partition("?")[2]
    values = [pair.partition("=")[2] for pair in query.split("&")]
    return SecretStrs((query, *values, *map(unquote, values)))
