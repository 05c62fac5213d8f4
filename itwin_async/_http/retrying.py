"""Failed attempts: the error of a response, and the wait before the next attempt."""

import asyncio
import time
from typing import Any, Final

from itwin_async._aio.timeouts import visible_deadline
from itwin_async._core.secrets import SecretBytes, SecretStrs
from itwin_async._core.urls import Origin, split
from itwin_async._http.error_response import parse_error, parse_retry_after
from itwin_async._http.instrumentation import Instrumentation
from itwin_async._http.outages import CircuitBreaker
from itwin_async._http.response import Response
from itwin_async._http.transport_errors import proxy_error
from itwin_async.errors import ITwinError, LinkError, TransportError
from itwin_async.retries import RetryState

MAX_ERROR_BODY: Final = 65_536  # bytes of an error's body that are read


async def wait_before_retry(
    retry_state: RetryState,
    failure: ITwinError,
    breaker: CircuitBreaker,
    instrumentation: Instrumentation,
) -> None:
    """Wait until a failed request may be tried again; raise the failure if it may not.

    During an outage this does not wait: `CircuitBreaker.enter` does.
    """
    now = asyncio.get_running_loop().time()
    delay = retry_state.delay(failure, now, outage=breaker.open)
    retry_state.request_id = failure.request_id
    if delay is not None and breaker.open:
        delay = breaker.until_probe()
    if delay is None or now + delay > visible_deadline():
        failure.outcome_unknown = retry_state.outcome_unknown(failure)
        raise failure
    instrumentation.retry_scheduled(failure, retry_state.faults, delay)
    if not breaker.open:
        await asyncio.sleep(delay)


async def read_error(
    response: Response,
    origin: Origin,
    *,
    secrets: SecretStrs,
    proxy: str | None,
    kind: Any = None,
) -> ITwinError:
    """The error of a response that is no success, with what its body says."""
    data = SecretBytes()
    try:
        while len(data) < MAX_ERROR_BODY and data.take(await response.read()):
            pass
    except TransportError:
        pass  # the status is enough
    finally:
        response.close()
    if response.status == 407:
        return proxy_error(407, origin.host, proxy)
    location = response.headers.get("Location")
    if 300 <= response.status < 400 and location is not None:
        parts = split(location)
        if parts is not None and parts[0] != origin:
            return LinkError(f"a redirect leads to another origin, {parts[0]}")
        if parts is None and not (location.startswith("/") and not location.startswith("//")):
            return LinkError("a redirect leads to what is not an http(s) URL with a plain host")
    wait = retry_after(response)
    return parse_error(response.status, bytes(data), wait, secrets=secrets, kind=kind)


def retry_after(response: Response) -> float | None:
    """The seconds of `Retry-After`, or None."""
    headers = response.headers
    return parse_retry_after(headers.get("Retry-After"), headers.get("Date"), time.time())
