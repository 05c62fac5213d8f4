"""Signed addresses of files, which expire and need no token."""

import base64
import hashlib
import hmac
from datetime import UTC, datetime
from typing import Final, Literal, get_args
from urllib.parse import parse_qs, urlencode

from itwin_async.emulator._arguments import check_number
from itwin_async.emulator._state.clock import Clock

StorageType = Literal["azure", "google"]
READ: Final = "r"
WRITE: Final = "cw"
_METHODS: Final = {READ: "GET", WRITE: "PUT"}


class UrlSigner:
    """Signs the path of a file for some seconds, and checks what it signed.

    The query is spelled as Azure's shared access signatures are, or as Google's signed URLs.
    """

    def __init__(
        self, seed: int, lifetime: float, clock: Clock, storage_type: StorageType = "azure"
    ) -> None:
        check_number("download_lifetime", lifetime, above=True)
        if storage_type not in get_args(StorageType):
            raise ValueError(f"storage_type must be azure or google, not {storage_type!r}")
        self._key = f"blobs {seed}".encode()
        self.lifetime = lifetime
        self._clock = clock
        self.storage_type: StorageType = storage_type

    def _signature(self, path: str, expires: str, permission: str) -> str:
        text = f"{path}\n{expires}\n{permission}"
        digest = hmac.digest(self._key, text.encode(), hashlib.sha256)
        return base64.b64encode(digest).decode()

    def sign(self, path: str, permission: str) -> tuple[str, str]:
        """The path signed for this permission, and the time at which that expires."""
        when = datetime.fromtimestamp(self._clock.time() + self.lifetime, UTC)
        expires = when.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        signature = self._signature(path, expires, permission)
        if self.storage_type == "google":
            query = {
                "X-Goog-Algorithm": "GOOG4-RSA-SHA256",
                "X-Goog-Expires": expires,
                "X-Goog-SignedHeaders": "host",
                "X-Goog-Method": _METHODS[permission],
                "X-Goog-Signature": signature,
            }
        else:
            query = {
                "sv": "2024-05-04",
                "se": expires,
                "sr": "b",
                "sp": permission,
                "sig": signature,
            }
        return f"{path}?{urlencode(query)}", expires

    def is_valid(self, path: str, query: str, permission: str) -> bool:
        """Whether this query signs this path for this permission, and has not expired."""
        values = parse_qs(query, keep_blank_values=True)
        end, sign = ("se", "sig")
        if self.storage_type == "google":
            end, sign = ("X-Goog-Expires", "X-Goog-Signature")
        expires, signature = values.get(end, [""])[0], values.get(sign, [""])[0]
        expected = self._signature(path, expires, permission)
        if not hmac.compare_digest(signature.encode(), expected.encode()):
            return False
        return datetime.fromisoformat(expires).timestamp() > self._clock.time()
