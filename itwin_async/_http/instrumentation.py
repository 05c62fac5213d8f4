"""Instrumentation of a session: counts for `stats`, events for a listener, lines for the log."""

import logging
import time
from asyncio import CancelledError
from contextvars import Context, copy_context
from typing import Final

from itwin_async.auth import Token
from itwin_async.errors import ITwinError, ResponseError, TransportError
from itwin_async.events import (
    Event,
    OnEvent,
    OperationFinished,
    OutageEnded,
    OutageStarted,
    RateLimited,
    ResponseReceived,
    RetryScheduled,
    Stats,
    TokenRenewed,
)

_logger = logging.getLogger("itwin_async")


class Instrumentation:
    """Counts what happens, and emits events if there is a listener."""

    def __init__(self, on_event: OnEvent | None) -> None:
        self._on_event: Final = on_event
        self._logged: set[type[BaseException]] = set()  # errors of the listener
        self._requests = 0
        self._retries = 0
        self._throttled = 0
        self._pauses = 0
        self._renewals = 0
        self._bytes_received = 0
        self._outages = 0
        self._probes = 0
        self._prefetched = 0
        self._prefetched_in_vain = 0

    @property
    def stats(self) -> Stats:
        """The counts as they are now."""
        return Stats(
            self._requests, self._retries, self._throttled, self._pauses, self._renewals,
            self._bytes_received, self._outages, self._probes, self._prefetched,
            self._prefetched_in_vain,
        )  # fmt: skip

    def start_span(self, operation: str) -> "OperationSpan | None":
        """Start the span of an operation; None without a listener."""
        return None if self._on_event is None else OperationSpan(self, operation)

    def request_sent(self, span: "OperationSpan | None") -> float:
        """Count a request that is sent now; returns the time."""
        self._requests += 1
        if span is not None:
            span.attempts += 1
        return time.monotonic()

    def prefetch_sent(self) -> None:
        """Count a page that is requested before its turn."""
        self._prefetched += 1

    def prefetch_unused(self) -> None:
        """Count a page that was requested before its turn and not used."""
        self._prefetched_in_vain += 1

    def response_received(
        self,
        operation: object,
        status: int,
        since: float,
        request_id: str,
        span: "OperationSpan | None",
    ) -> None:
        """Record the headers of a response, or with status 0 that there was none."""
        if span is not None:
            span.status, span.request_id = status, request_id
        if _logger.isEnabledFor(logging.DEBUG):
            _logger.debug("%s was answered %d (request %s)", operation, status, request_id)
        if self._on_event is not None:
            seconds = time.monotonic() - since
            self.emit(ResponseReceived(str(operation), status, seconds, request_id))

    def body_received(self, size: int, span: "OperationSpan | None") -> None:
        """Count bytes of a body."""
        self._bytes_received += size
        if span is not None:
            span.bytes_received += size

    def retry_scheduled(self, failure: ITwinError, faults: int, delay: float) -> None:
        """Record that a request will be sent again."""
        self._retries += 1
        operation, reason = failure.operation or "", _reason(failure)
        _logger.info(
            "%s is tried again in %.2f s after fault %d: %s", operation, delay, faults, reason
        )
        if self._on_event is not None:
            self.emit(RetryScheduled(operation, faults, delay, reason, failure.request_id))

    def throttled(self, span: "OperationSpan | None") -> None:
        """Count a 429."""
        self._throttled += 1
        if span is not None:
            span.throttled += 1

    def rate_limited(self, operation: str, seconds: float, request_id: str) -> None:
        """Record that a 429 paused all requests."""
        self._pauses += 1
        _logger.warning("%s was throttled: all pause for %.1f s", operation, seconds)
        if self._on_event is not None:
            self.emit(RateLimited(operation, seconds, request_id))

    def outage_started(self, origin: str, failure: ITwinError) -> None:
        """Record the beginning of an outage."""
        self._outages += 1
        reason = _reason(failure)
        _logger.warning("%s is out of service (%s): calls wait while one probes", origin, reason)
        if self._on_event is not None:
            self.emit(OutageStarted(origin, reason, failure.request_id))

    def probe_failed(self) -> None:
        """Count a request that failed during an outage."""
        self._probes += 1

    def outage_ended(self, origin: str, seconds: float, failed_probes: int) -> None:
        """Record the end of an outage."""
        _logger.info(
            "%s answers again after %.1f s and %d failed probes", origin, seconds, failed_probes
        )
        if self._on_event is not None:
            self.emit(OutageEnded(origin, seconds, failed_probes))

    def token_renewed(self, token: Token) -> None:
        """Record a new token."""
        self._renewals += 1
        _logger.debug("A token was fetched")
        if self._on_event is not None:
            self.emit(TokenRenewed(token.expires_in))

    def emit(self, event: Event) -> None:
        """Call the listener; the first error of each type that it raises is logged."""
        if self._on_event is not None:
            try:
                self._on_event(event)
            except (Exception, CancelledError) as error:  # nobody can cancel a plain function
                kind = type(error)
                if kind not in self._logged:  # an event may come a thousand times a second
                    self._logged.add(kind)
                    _logger.exception(
                        "on_event failed; the request goes on, and no further %s of it is logged",
                        kind.__name__,
                    )


def _reason(failure: ITwinError) -> str:
    return failure.reason if isinstance(failure, TransportError) else str(failure)


class OperationSpan:
    """An operation under way; emits `OperationFinished` once, when it ends."""

    __slots__ = (
        "_context",
        "_ended",
        "_instrumentation",
        "_operation",
        "_since",
        "attempts",
        "bytes_received",
        "request_id",
        "status",
        "throttled",
        "waited",
    )

    def __init__(self, instrumentation: Instrumentation, operation: str) -> None:
        self._instrumentation = instrumentation
        self._operation = operation
        self._since = time.monotonic()
        # Of the task that began it: another task or the collector may close its body.
        self._context: Context = copy_context()
        self._ended = False
        self.attempts: int = 0
        self.throttled: int = 0
        self.waited: float = 0.0
        self.bytes_received: int = 0
        self.status: int = 0
        self.request_id: str | None = None

    def end(self, error: BaseException | None = None) -> None:
        """End the span; nothing if it has ended."""
        if self._ended:
            return
        self._ended = True
        if isinstance(error, ResponseError):
            self.status = error.status
        event = OperationFinished(
            operation=self._operation,
            seconds=time.monotonic() - self._since,
            waited=self.waited,
            attempts=self.attempts,
            throttled=self.throttled,
            bytes_received=self.bytes_received,
            status=self.status,
            error=None if error is None else type(error).__name__,
            request_id=self.request_id,
        )
        self._context.run(self._instrumentation.emit, event)
