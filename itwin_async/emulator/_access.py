"""Who may call, and how often: tokens, the checks of every API request, and the rate limit."""

import base64
import binascii
import math
import re
import secrets
import time
from collections import deque
from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qs, unquote_plus

from itwin_async.emulator._answers import Answer, error
from itwin_async.emulator._routes import Route

CLIENT_ID: Final = "service-emulator"
# Unreserved characters only: it is pasted into forms and shells as it is.
CLIENT_SECRET: Final = "emulator-secret-5f0c2b"  # noqa: S105
SCOPE: Final = "itwin-platform"

_MINUTE: Final = 60.0
_VENDOR: Final = re.compile(r"application/vnd\.bentley\.itwin-platform\.v(\d+)\+json")
_NO_STORE: Final = {"Cache-Control": "no-store", "Pragma": "no-cache"}
_LIMITED: Final = {
    "RateLimitExceeded": "The client sent more requests than allowed by this API"
    " for the current tier of the client.",
    "TooManyRequests": "More requests were received than the subscription rate-limit allows.",
}


def _refused(status: int, code: str, headers: Mapping[str, str] | None = None) -> Answer:
    return Answer(status=status, data={"error": code}, headers={**_NO_STORE, **(headers or {})})


class Tokens:
    """The token endpoint (RFC 6749) and the tokens it gave out.

    Tokens alone do not follow from the seed: who renews one must see that it is another, also
    when the emulator was started again.
    """

    def __init__(self, lifetime: float) -> None:
        self._lifetime = lifetime
        self._ends: dict[str, float] = {}
        self._count = 0

    def issue(self, lifetime: float | None = None) -> str:
        """A new token."""
        self._count += 1
        if self._count % 256 == 0:
            now = time.monotonic()
            self._ends = {token: end for token, end in self._ends.items() if end > now}
        token = ".".join(secrets.token_hex(20) for _ in range(3))
        self._ends[token] = time.monotonic() + (self._lifetime if lifetime is None else lifetime)
        return token

    def expire(self) -> None:
        """All tokens end now."""
        self._ends.clear()

    def answer(self, headers: Mapping[str, str], body: bytes) -> Answer:
        """What the token endpoint says to a form."""
        pairs = parse_qs(body.decode("latin-1"), keep_blank_values=True)
        form = {name: values[0] for name, values in pairs.items()}
        scheme, _, basic = headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "basic":
            try:
                text = base64.b64decode(basic.strip(), validate=True).decode()
            except (ValueError, binascii.Error):
                text = ""
            id, _, secret = text.partition(":")
            # RFC 6749 wants both parts URL-encoded first; many clients leave that out.
            given = (id, secret), (unquote_plus(id), unquote_plus(secret))
            if (CLIENT_ID, CLIENT_SECRET) not in given:
                return _refused(401, "invalid_client", {"WWW-Authenticate": "Basic"})
        elif (form.get("client_id"), form.get("client_secret")) != (CLIENT_ID, CLIENT_SECRET):
            return _refused(400, "invalid_client")
        if form.get("grant_type") is None:
            return _refused(400, "invalid_request")
        if form["grant_type"] != "client_credentials":
            return _refused(400, "unsupported_grant_type")
        if form.get("scope", SCOPE).split() != [SCOPE]:
            return _refused(400, "invalid_scope")
        whole = int(self._lifetime) if self._lifetime == int(self._lifetime) else self._lifetime
        answer = {"access_token": self.issue(), "expires_in": whole, "token_type": "Bearer"}
        return Answer(data={**answer, "scope": SCOPE}, headers=_NO_STORE)

    def check(self, headers: Mapping[str, str]) -> Answer | None:
        """The refusal of a request without a valid token."""
        value = headers.get("Authorization")
        if value is None:
            message = "Header Authorization was not found in the request. Access denied."
            return error(401, "HeaderNotFound", message)
        scheme, _, token = value.partition(" ")
        if scheme.lower() != "bearer":
            message = "The authorization scheme is not Bearer. Access denied."
            return error(401, "InvalidAuthorizationScheme", message)
        if self._ends.get(token.strip(), 0.0) <= time.monotonic():
            message = "Access denied due to invalid access_token."
            return error(401, "Unauthorized", message)
        return None


def check_accept(route: Route, headers: Mapping[str, str]) -> Answer | None:
    """The refusal of a version that the API does not have; what it really is, no page says."""
    accept = headers.get("Accept", "*/*").lower()
    versions = _VENDOR.findall(accept)
    if not versions or str(route.version) in versions or "*/*" in accept:
        return None
    message = f"This API is of version {route.version}."
    return error(406, "InvalidHeaderValue", message, "Accept")


def throttled(route: Route | None, retry_after: float | str) -> Answer:
    """The documented 429; the pages name its headers but not what stands in them."""
    old = route is not None and route.api in {"imodels", "edfs"}
    code = "TooManyRequests" if old else "RateLimitExceeded"
    headers = {
        "Retry-After": str(retry_after),
        "ITwinPlatform-RateLimited-Tier": "Trial",
        "ITwinPlatform-RateLimited-API": route.api if route else "unknown",
        "ITwinPlatform-RateLimited-Operation": route.name if route else "unknown",
        "ITwinPlatform-RateLimited-Application": CLIENT_ID,
    }
    return error(429, code, _LIMITED[code], headers=headers)


class RateLimit:
    """No window of a minute holds more admitted requests than this; refused ones do not count."""

    def __init__(self, per_minute: int | None) -> None:
        self._per_minute = per_minute
        self._admitted: deque[float] = deque()
        self._closed_until = 0.0

    def close(self, seconds: float) -> None:
        """Admit nothing for so long."""
        self._closed_until = time.monotonic() + seconds

    def admit(self) -> int | None:
        """None when the request is admitted, else the whole seconds until there is room."""
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
