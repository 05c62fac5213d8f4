"""OpenTelemetry: a span for each operation. Needs the extra ``otel``."""

import time
from typing import Final

from opentelemetry import trace

from itwin_async import Event, OperationFinished, __version__

_NANOSECONDS: Final = 1_000_000_000


class Spans:
    """An ``on_event`` for `ITwinSession` that makes a span of each operation.

    A span is of kind CLIENT, named as the operation is declared (such as
    ``GET /imodels/{imodel_id}``, never with an id or a query), a child of the span in whose context
    the operation began, and as long as the operation with its waits and attempts. A page of a list
    is an operation, and so are the file of a download and the fetching of a token. Attributes, in
    seconds, bytes and items: ``itwin.attempts``, ``itwin.throttled``, ``itwin.waited``,
    ``itwin.bytes_received``, ``itwin.request_id``, and by OpenTelemetry's conventions
    ``http.request.method``, ``url.template``, ``http.response.status_code``,
    ``http.request.resend_count`` and, for an error, ``error.type``.

    Args:
        tracer_provider: where the tracer comes from; the global provider where None.
    """

    def __init__(self, tracer_provider: trace.TracerProvider | None = None) -> None:
        self._tracer: Final = trace.get_tracer(
            "itwin_async", __version__, tracer_provider=tracer_provider
        )

    def __call__(self, event: Event) -> None:
        """Make a span of a finished operation; other events are left alone."""
        if not isinstance(event, OperationFinished):
            return
        end = time.time_ns()
        # A span made at the end: nothing need be kept of the operations under way.
        span = self._tracer.start_span(
            event.operation,
            kind=trace.SpanKind.CLIENT,
            start_time=end - round(event.seconds * _NANOSECONDS),
            attributes=_attributes(event),
        )
        if event.error is not None:
            span.set_status(trace.StatusCode.ERROR, event.error)
        span.end(end)


def _attributes(event: OperationFinished) -> dict[str, str | int | float]:
    found: dict[str, str | int | float] = {
        "itwin.attempts": event.attempts,
        "itwin.throttled": event.throttled,
        "itwin.waited": event.waited,
        "itwin.bytes_received": event.bytes_received,
    }
    method, _, template = event.operation.partition(" ")
    if template:
        found["http.request.method"] = method
        if template.startswith("/"):
            found["url.template"] = template
    if event.status:
        found["http.response.status_code"] = event.status
    if event.attempts > 1:
        found["http.request.resend_count"] = event.attempts - 1
    if event.request_id is not None:
        found["itwin.request_id"] = event.request_id
    if event.error is not None:
        found["error.type"] = event.error
    return found
