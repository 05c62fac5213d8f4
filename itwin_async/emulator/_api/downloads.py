"""The blob storage: files behind signed addresses, never with the platform's token."""

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

from itwin_async.emulator._api.request import Request
from itwin_async.emulator._response import Response
from itwin_async.emulator._state.extensions import Extension, Version, sha256
from itwin_async.emulator._state.seed import JSON

_RANGE: Final = re.compile(r"bytes=(\d*)-(\d*)", re.ASCII)
_ERROR: Final = (
    '<?xml version="1.0" encoding="utf-8"?>'
    "<Error><Code>{0}</Code><Message>The file cannot be read.</Message></Error>"
)


def file_json(request: Request, extension: Extension, version: Version, name: str | None) -> JSON:
    """What the platform says of one file; without a name, of the whole archive."""
    content = _content(version, name) or b""
    where = "archive.zip" if name is None else f"files/{quote(name)}"
    url, expires = request.signer.sign(f"/blob/{extension.id}/{quote(version.number)}/{where}")
    return {
        "downloadUrl": f"{request.origin}{url}",
        "downloadUrlExpiresAt": expires,
        "checksum": {"sha256": sha256(content)},
    }


def _content(version: Version, name: str | None) -> bytes | None:
    return version.archive if name is None else version.files.get(name)


def download(request: Request) -> Response:
    """A file of a version."""
    return _download(request, request.params["name"])


def download_archive(request: Request) -> Response:
    """All files of a version as a zip archive."""
    return _download(request, None)


def _download(request: Request, name: str | None) -> Response:
    if "Authorization" in request.headers:
        # A storage refuses a signed address with a second kind of authorization.
        return _storage_error(400, "InvalidAuthenticationInfo")
    if not request.signer.is_valid(request.path, request.raw_query):
        return _storage_error(403, "AuthenticationFailed")
    extension = request.state.extensions.get(request.params["extension_id"])
    version = extension.versions.get(request.params["number"]) if extension else None
    content = _content(version, name) if version else None
    if content is None:
        return _storage_error(404, "BlobNotFound")
    return _ranged(content, request.headers)


def _storage_error(status: int, code: str, headers: Mapping[str, str] | None = None) -> Response:
    return Response(
        status=status,
        raw=_ERROR.format(code).encode(),
        content_type="application/xml",
        headers={"x-ms-error-code": code, **(headers or {})},
    )


def _ranged(content: bytes, sent: Mapping[str, str]) -> Response:
    """The whole content, or the one range of it that was asked for (RFC 9110, section 14)."""
    content_type = "application/octet-stream"
    etag = f'"{sha256(content)[:16]}"'
    headers = {"Accept-Ranges": "bytes", "ETag": etag}
    match = _RANGE.fullmatch(sent.get("Range", ""))
    first, last = match.groups() if match else ("", "")
    is_range = (first or last) and not (first and last and int(last) < int(first))
    if not is_range or sent.get("If-Range", etag) != etag:
        return Response(raw=content, content_type=content_type, headers=headers)
    size = len(content)
    start = int(first) if first else max(0, size - int(last))
    end = min(int(last), size - 1) if first and last else size - 1
    if start > end:
        return _storage_error(416, "InvalidRange", {"Content-Range": f"bytes */{size}"})
    headers["Content-Range"] = f"bytes {start}-{end}/{size}"
    part = content[start : end + 1]
    return Response(status=206, raw=part, content_type=content_type, headers=headers)
