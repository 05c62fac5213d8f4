"""What becomes of an attempt that failed: the error it is, and the wait before the next one."""

import asyncio
import time
from typing import Any, Final

from itwin_async._answers import parse_retry_after, refusal
from itwin_async._interrupt import visible_deadline
from itwin_async._links import Origin, split
from itwin_async._outages import CircuitBreaker
from itwin_async._silent import SilentBytes, SilentStrs
from itwin_async._telling import Telling
from itwin_async._transport import Answer, proxy_refusal
from itwin_async.errors import ITwinError, LinkError, TransportError
from itwin_async.retries import Attempts

LONGEST: Final = 65_536  # bytes of an error's body that are read


async def again(
    attempts: Attempts, failure: ITwinError, breaker: CircuitBreaker, telling: Telling
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
        failure.may_have_happened = attempts.in_doubt(failure)
        raise failure
    telling.retried(failure, attempts.faults, delay)
    if not breaker.open:
        await asyncio.sleep(delay)


async def refused(
    answer: Answer, origin: Origin, *, secrets: SilentStrs, kind: Any = None
) -> ITwinError:
    """The error that an answer of this origin is, read as far as it is worth it."""
    text = SilentBytes()
    try:
        while len(text) < LONGEST and text.take(await answer.read()):
            pass
    except TransportError:
        pass  # the status says enough
    finally:
        answer.close()
    if answer.status == 407:
        return proxy_refusal(407, origin.host)
    location = answer.headers.get("Location")
    if 300 <= answer.status < 400 and location is not None:
        parts = split(location)
        if parts is not None and parts[0] != origin:
            return LinkError(f"a redirect leads to another origin, {parts[0]}")
        if parts is None and not (location.startswith("/") and not location.startswith("//")):
            return LinkError("a redirect leads to what is not an http(s) URL with a plain host")
    wait = retry_after(answer)
    return refusal(answer.status, bytes(text), wait, secrets=secrets, kind=kind)


def retry_after(answer: Answer) -> float | None:
    """Seconds that an answer asks to wait, or None."""
    headers = answer.headers
    return parse_retry_after(headers.get("Retry-After"), headers.get("Date"), time.time())
