"""Files as the platform offers them for download, and the checks of their URLs."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from itwin_async._core.secrets import SecretStr
from itwin_async._core.urls import Origin, split
from itwin_async.errors import DecodeError, LinkError


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file behind a signed URL. ``path`` is relative, with slashes, and not to be trusted.

    ``sha256`` is hexadecimal; without one, a file is complete when its response is.
    """

    path: str
    url: SecretStr | None
    expires_at: datetime | None = None
    sha256: str | None = None


def check_signed_url(
    base: Origin, url: SecretStr | None, *, allow_plain_http: bool = False
) -> tuple[Origin, str]:
    """Origin and target, byte for byte, of a URL to fetch without the token; `LinkError` if bad."""
    parts = split(url or "")
    if parts is None:
        raise LinkError("a download URL is not an absolute https URL with a plain host")
    origin, parts = parts[0], (parts[0], SecretStr(parts[1]))
    if origin.is_loopback and not base.is_loopback:
        raise LinkError("a download URL leads to this machine")
    plain = allow_plain_http or (origin.is_loopback and base.scheme == "http")
    if origin.scheme != "https" and not plain:
        raise LinkError(f"a download URL is not https: {origin}")
    return parts


def by_path(offered: Sequence[RemoteFile]) -> dict[str, RemoteFile]:
    """Files by their paths; `DecodeError` if two have the same one."""
    files = {file.path: file for file in offered}
    if len(files) < len(offered):
        raise DecodeError("two files have the same relativePath")
    return files


def content_key(offered: Sequence[RemoteFile]) -> str:
    """A digest that stands for the content of these files, also in another process."""
    files = [
        (file.path, file.sha256 or (file.url or "").partition("?")[0])
        for file in sorted(offered, key=lambda file: file.path)
    ]
    return hashlib.sha256(repr(files).encode()).hexdigest()[:16]
