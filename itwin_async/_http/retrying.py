"""What becomes of an attempt that failed: the error it is, and the wait before the next one."""

import asyncio
import time
from typing import Any, Final

from itwin_async._aio.timeouts import visible_deadline
from itwin_async._core.secrets import SecretBytes, SecretStrs
from itwin_async._core.urls import Origin, split
from itwin_async._http.error_response import parse_error, parse_retry_after
from itwin_async._http.instrumentation import Instrumentation
from itwin_async._http.outages import CircuitBreaker
from itwin_async._http.transport import Response, proxy_error
from itwin_async.errors import ITwinError, LinkError, TransportError
from itwin_async.retries import RetryState

MAX_ERROR_BODY: Final = 65_536  # bytes of an error's body that are read


async def wait_before_retry(
    attempts: RetryState,
    failure: ITwinError,
    breaker: CircuitBreaker,
    instrumentation: Instrumentation,
) -> None:
    """Wait until a failed request may be tried again; raise the failure if it may not.

    During an outage this does not wait: `CircuitBreaker.enter` does.
    """
    now = asyncio.get_running_loop().time()
    delay = attempts.delay(failure, now, outage=breaker.open)
    attempts.request_id = failure.request_id
    if delay is not None and breaker.open:
        delay = breaker.until_probe()
    if delay is None or now + delay > visible_deadline():
        failure.outcome_unknown = attempts.outcome_unknown(failure)
        raise failure
    instrumentation.retried(failure, attempts.faults, delay)
    if not breaker.open:
        await asyncio.sleep(delay)


async def read_error(
    response: Response, origin: Origin, *, secrets: SecretStrs, kind: Any = None
) -> ITwinError:
    """The error that an answer of this origin is, read as far as it is worth it."""
    text = SecretBytes()
    try:
        while len(text) < MAX_ERROR_BODY and text.take(await response.read()):
            pass
    except TransportError:
        pass  # the status says enough
    finally:
        response.close()
    if response.status == 407:
        return proxy_error(407, origin.host)
    location = response.headers.get("Location")
    if 300 <= response.status < 400 and location is not None:
        parts = split(location)
        if parts is not None and parts[0] != origin:
            return LinkError(f"a redirect leads to another origin, {parts[0]}")
        if parts is None and not (location.startswith("/") and not location.startswith("//")):
            return LinkError("a redirect leads to what is not an http(s) URL with a plain host")
    wait = retry_after(response)
    return parse_error(response.status, bytes(text), wait, secrets=secrets, kind=kind)


def retry_after(response: Response) -> float | None:
    """Seconds that an answer asks to wait, or None."""
    headers = response.headers
    return parse_retry_after(headers.get("Retry-After"), headers.get("Date"), time.time())
