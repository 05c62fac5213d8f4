"""The rate limit of the platform, and its 429."""

import math
import time
from collections import deque
from typing import Final

from itwin_async.emulator._api.route import Route
from itwin_async.emulator._arguments import check_int
from itwin_async.emulator._identity.clients import SERVICE_CLIENT_ID
from itwin_async.emulator._response import Response, error_response

_MINUTE: Final = 60.0
_MESSAGES: Final = {
    "RateLimitExceeded": "The client sent more requests than allowed by this API"
    " for the current tier of the client.",
    "TooManyRequests": "More requests were received than the subscription rate-limit allows.",
}


def too_many_requests(route: Route | None, retry_after: float | str) -> Response:
    """The documented 429; the pages name its headers but not their values."""
    code = "TooManyRequests" if route and route.api in {"imodels", "edfs"} else "RateLimitExceeded"
    headers = {
        "Retry-After": str(retry_after),
        "ITwinPlatform-RateLimited-Tier": "Trial",
        "ITwinPlatform-RateLimited-API": route.api if route else "unknown",
        "ITwinPlatform-RateLimited-Operation": route.name if route else "unknown",
        "ITwinPlatform-RateLimited-Application": SERVICE_CLIENT_ID,
    }
    return error_response(429, code, _MESSAGES[code], headers=headers)


class RateLimit:
    """A sliding window: no sixty seconds hold more admitted requests; refused ones do not count."""

    def __init__(self, per_minute: int | None) -> None:
        check_int("per_minute", per_minute, 1, optional=True)
        self._per_minute = per_minute
        self._admitted: deque[float] = deque()
        self._closed_until = 0.0

    def close(self, seconds: float) -> None:
        """Admit nothing for so long."""
        self._closed_until = time.monotonic() + seconds

    def admit(self) -> int | None:
        """Admit a request and give None, or give the whole seconds until there is room."""
        now, admitted = time.monotonic(), self._admitted
        if now < self._closed_until:
            return max(1, math.ceil(self._closed_until - now))
        if self._per_minute is None:
            return None
        while admitted and admitted[0] <= now - _MINUTE:
            admitted.popleft()
        if len(admitted) < self._per_minute:
            admitted.append(now)
            return None
        return max(1, math.ceil(admitted[0] + _MINUTE - now)) if admitted else int(_MINUTE)
