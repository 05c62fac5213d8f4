"""Signed addresses of files, which expire and need no token."""

import base64
import hashlib
import hmac
from datetime import UTC, datetime
from urllib.parse import parse_qs, quote

from itwin_async.emulator._arguments import check_number
from itwin_async.emulator._state.clock import Clock


class UrlSigner:
    """Signs the path of a file for some seconds, and checks what it signed."""

    def __init__(self, seed: int, lifetime: float, clock: Clock) -> None:
        check_number("download_lifetime", lifetime, above=True)
        self._key = f"blobs {seed}".encode()
        self._lifetime = lifetime
        self._clock = clock

    def _signature(self, path: str, expires: str) -> str:
        digest = hmac.digest(self._key, f"{path}\n{expires}".encode(), hashlib.sha256)
        return base64.b64encode(digest).decode()

    def sign(self, path: str) -> tuple[str, str]:
        """The path with its signature, and the time at which it expires."""
        when = datetime.fromtimestamp(self._clock.time() + self._lifetime, UTC)
        expires = when.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        signature = quote(self._signature(path, expires), safe="")
        query = f"sv=2024-05-04&se={quote(expires, safe='')}&sr=b&sp=r&sig={signature}"
        return f"{path}?{query}", expires

    def is_valid(self, path: str, query: str) -> bool:
        """Whether this query signs this path, and has not expired."""
        values = parse_qs(query, keep_blank_values=True)
        expires, signature = values.get("se", [""])[0], values.get("sig", [""])[0]
        if not hmac.compare_digest(signature.encode(), self._signature(path, expires).encode()):
            return False
        return datetime.fromisoformat(expires).timestamp() > self._clock.time()
