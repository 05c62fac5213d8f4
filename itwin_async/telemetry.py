"""OpenTelemetry: a span for each operation. Needs the extra ``otel``."""

import time
from typing import Final

from itwin_async import Event, OperationFinished, __version__

try:
    from opentelemetry import trace
except ModuleNotFoundError as _error:
    if _error.name != "opentelemetry":
        raise
    raise ImportError("spans need opentelemetry-api: pip install 'itwin-async[otel]'") from None

_NANOSECONDS: Final = 1_000_000_000


class Spans:
    """An ``on_event`` for `ITwinSession` that records a span for each operation.

    A span is of kind CLIENT and has the name of the operation as declared, such as
    ``GET /imodels/{imodel_id}``, never an id or a query. Its parent is the span in whose context
    the operation began, and its duration includes all waits and attempts. A page of a list is an
    operation, and so are the file of a download and the fetching of a token. Attributes, in
    seconds, bytes and items: ``itwin.attempts``, ``itwin.throttled``, ``itwin.waited``,
    ``itwin.bytes_received``, ``itwin.request_id``, and by OpenTelemetry's conventions
    ``http.request.method``, ``url.template``, ``http.response.status_code``,
    ``http.request.resend_count`` and, for an error, ``error.type``.

    Example::

        async with ITwinSession.from_env(on_event=Spans()) as itwin:
            await itwin.imodels.get_imodel(imodel_id)

    Args:
        tracer_provider: of the tracer; the global provider where None.
    """

    def __init__(self, tracer_provider: trace.TracerProvider | None = None) -> None:
        self._tracer: Final = trace.get_tracer(
            "itwin_async", __version__, tracer_provider=tracer_provider
        )

    def __call__(self, event: Event) -> None:
        """Record the span of a finished operation; other events are ignored."""
        if not isinstance(event, OperationFinished):
            return
        end = time.time_ns()
        # Recorded at the end, so that nothing is kept for the operations that run.
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
    attributes: dict[str, str | int | float] = {
        "itwin.attempts": event.attempts,
        "itwin.throttled": event.throttled,
        "itwin.waited": event.waited,
        "itwin.bytes_received": event.bytes_received,
    }
    method, _, template = event.operation.partition(" ")
    if template:
        attributes["http.request.method"] = method
        if template.startswith("/"):
            attributes["url.template"] = template
    if event.status:
        attributes["http.response.status_code"] = event.status
    if event.attempts > 1:
        attributes["http.request.resend_count"] = event.attempts - 1
    if event.request_id is not None:
        attributes["itwin.request_id"] = event.request_id
    if event.error is not None:
        attributes["error.type"] = event.error
    return attributes
