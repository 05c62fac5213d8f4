"""A file is fetched by a signed address that expires, and never with the platform's token."""

import base64
import hashlib
import hmac
import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final
from urllib.parse import parse_qs, quote

from itwin_async.emulator._answers import Answer
from itwin_async.emulator._extension_data import sha256
from itwin_async.emulator._seed import JSON
from itwin_async.emulator._world import World

_RANGE: Final = re.compile(r"bytes=(\d*)-(\d*)", re.ASCII)
_ERROR: Final = (
    '<?xml version="1.0" encoding="utf-8"?>'
    "<Error><Code>{0}</Code><Message>The file cannot be read.</Message></Error>"
)


class Blobs:
    """Signs and checks the addresses of version files."""

    def __init__(self, world: World, lifetime: float) -> None:
        self._world = world
        self._lifetime = lifetime
        self._key = f"blobs {world.size.seed}".encode()

    def _signature(self, path: str, expires: str) -> str:
        digest = hmac.digest(self._key, f"{path}\n{expires}".encode(), hashlib.sha256)
        return base64.b64encode(digest).decode()

    def file_json(self, origin: str, extension_id: str, number: str, name: str | None) -> JSON:
        """What the platform says of one file; without a name, of the whole archive."""
        content = self._content(extension_id, number, name) or b""
        where = "archive.zip" if name is None else f"files/{quote(name)}"
        path = f"/blob/{extension_id}/{quote(number)}/{where}"
        when = datetime.fromtimestamp(time.time() + self._lifetime, UTC)
        expires = when.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        signature = quote(self._signature(path, expires), safe="")
        query = f"sv=2024-05-04&se={quote(expires, safe='')}&sr=b&sp=r&sig={signature}"
        return {
            "downloadUrl": f"{origin}{path}?{query}",
            "downloadUrlExpiresAt": expires,
            "checksum": {"sha256": sha256(content)},
        }

    def _content(self, extension_id: str, number: str, name: str | None) -> bytes | None:
        extension = self._world.extensions.by_id.get(extension_id)
        if extension is None:
            return None
        version = self._world.extensions.versions(extension).get(number)
        if version is None:
            return None
        return version.archive if name is None else version.files.get(name)

    def answer(self, target: str, params: Mapping[str, str], headers: Mapping[str, str]) -> Answer:
        """The file behind a signed address, or the refusal of the blob storage."""
        path, _, raw_query = target.partition("?")
        query = parse_qs(raw_query, keep_blank_values=True)
        expires, signature = query.get("se", [""])[0], query.get("sig", [""])[0]
        if "Authorization" in headers:
            # A storage refuses a signed address with a second kind of authorization.
            return _refused(400, "InvalidAuthenticationInfo")
        if not hmac.compare_digest(signature.encode(), self._signature(path, expires).encode()):
            return _refused(403, "AuthenticationFailed")
        if datetime.fromisoformat(expires).timestamp() <= time.time():
            return _refused(403, "AuthenticationFailed")
        content = self._content(params["extension_id"], params["number"], params.get("name"))
        if content is None:
            return _refused(404, "BlobNotFound")
        return _ranged(content, headers)


def _refused(status: int, code: str, **headers: str) -> Answer:
    text = _ERROR.format(code).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    named["x-ms-error-code"] = code
    return Answer(status=status, raw=text, content_type="application/xml", headers=named)


def _ranged(content: bytes, sent: Mapping[str, str]) -> Answer:
    """The whole content, or the one range of it that was asked for (RFC 9110, section 14)."""
    kind = "application/octet-stream"
    etag = f'"{sha256(content)[:16]}"'
    headers = {"Accept-Ranges": "bytes", "ETag": etag}
    match = _RANGE.fullmatch(sent.get("Range", ""))
    first, last = match.groups() if match else ("", "")
    is_range = (first or last) and not (first and last and int(last) < int(first))
    if not is_range or sent.get("If-Range", etag) != etag:
        return Answer(raw=content, content_type=kind, headers=headers)
    size = len(content)
    start = int(first) if first else max(0, size - int(last))
    end = min(int(last), size - 1) if first and last else size - 1
    if start > end:
        return _refused(416, "InvalidRange", Content_Range=f"bytes */{size}")
    headers["Content-Range"] = f"bytes {start}-{end}/{size}"
    return Answer(status=206, raw=content[start : end + 1], content_type=kind, headers=headers)
