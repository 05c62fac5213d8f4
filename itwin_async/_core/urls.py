"""URLs: origins, and which links a request may follow, decided before it is sent. No I/O."""

import ipaddress
import re
from typing import Final, NamedTuple, cast
from urllib.parse import urlsplit

from itwin_async._core.secrets import SecretStr, SecretValue
from itwin_async.errors import LinkError

PRODUCTION: Final = "https://api.bentley.com"
_EXAMPLES: Final = {
    "token_url": "https://ims.bentley.com/connect/token",
    "callback_url": "https://example.com/webhook",
}
_PORTS: Final = {"http": 80, "https": 443}
# Hosts as the platform writes them; whatever needs IDNA, escapes or brackets is compared by value.
_ABSOLUTE: Final = re.compile(
    r"(?i)(https?)://([a-z0-9._-]+|\[[0-9a-f:.]+\])(?::([0-9]{1,5}))?(/[^?#]*)?(\?[^#]*)?(?:#.*)?"
)
_LONGEST: Final = 8_190  # bytes of a request line that servers and aiohttp take by default


def _is_written_well(url: str) -> bool:
    """Whether a URL is short enough and has no space, control character, backslash, non-ASCII."""
    return (
        len(url) <= _LONGEST
        and url.isascii()
        and url.isprintable()
        and " " not in url
        and "\\" not in url
    )


class Origin(NamedTuple):
    """Scheme, host and port, by which two URLs are of one origin."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        port = "" if _PORTS[self.scheme] == self.port else f":{self.port}"
        return f"{self.scheme}://{self.host}{port}"

    @property
    def is_loopback(self) -> bool:
        """Whether the host is this machine, by name or address."""
        if self.host == "localhost" or self.host.endswith(".localhost"):
            return True
        try:
            return ipaddress.ip_address(self.host.strip("[]")).is_loopback
        except ValueError:
            return False

    @property
    def is_platform(self) -> bool:
        """Whether the host is one of the platform's API hosts."""
        return (
            self.scheme == "https"
            and self.port == 443
            and (self.host == "api.bentley.com" or self.host.endswith("-api.bentley.com"))
        )


def split(url: str) -> tuple[Origin, str] | None:
    """Origin, and path with query as written, of an absolute http(s) URL; None for others."""
    if not _is_written_well(url):
        return None
    match = _ABSOLUTE.fullmatch(url)
    if match is None:
        return None
    scheme, host, port, path, query = match.groups()
    scheme = scheme.lower()
    number = int(port) if port else _PORTS[scheme]
    if not 0 < number < 65_536:
        return None
    return Origin(scheme, host.lower(), number), f"{path or '/'}{query or ''}"


def absolute_origin(url: SecretValue, name: str) -> Origin:
    """The origin of a URL, which may have a password in it; `TypeError`, `ValueError` if none."""
    if not isinstance(url.value, str):
        raise TypeError(f"{name} must be a str, not {type(url.value).__name__}")
    parts = split(url.value)
    if parts is None:
        example = _EXAMPLES.get(name, PRODUCTION)
        raise ValueError(f"{name} must be an absolute https URL such as {example}")
    return parts[0]


def secure_origin(url: SecretValue, name: str, *, allow_plain_http: bool = False) -> Origin:
    """The origin of a URL that a secret is sent to: https, or http to this machine."""
    origin = absolute_origin(url, name)
    if origin.scheme == "http" and not origin.is_loopback and not allow_plain_http:
        raise ValueError(
            f"{name} must be https: plain http is for loopback only, not {origin.host}, unless "
            "ITwinSession is given allow_plain_http=True (from_env: ITWIN_ALLOW_PLAIN_HTTP=1)"
        )
    return origin


def base_origin(url: SecretValue, *, allow_plain_http: bool = False) -> Origin:
    """The origin of a session's ``base_url``, which has neither path nor query."""
    origin = secure_origin(url, "base_url", allow_plain_http=allow_plain_http)
    if not _is_bare(url.value):
        raise ValueError(f"base_url must have no path and no query: use {origin}")
    return origin


def _is_bare(url: str) -> bool:
    parts = urlsplit(url)
    return not (parts.path.strip("/") or parts.fragment or "?" in url)


def next_href(links: object) -> str | None:
    """The ``next`` link of a page's ``_links``: None where there is none, in all its spellings."""
    if links is None:
        return None
    following = cast("dict[str, object]", links).get("next") if isinstance(links, dict) else links
    if isinstance(following, dict):
        href = cast("dict[str, object]", following).get("href")
    else:
        href = following
    if href is None:
        return None
    if not isinstance(href, str) or not href:
        raise LinkError("the next link of a page is not a URL")
    return href


def follow(base: Origin, current: str, href: str) -> str:
    """Path and query, byte for byte, of a link found on the page at ``current``.

    Raises `LinkError` for another origin. Links that name a platform host are followed on a base
    of the caller's own.
    """
    base_url = str(base)
    if not _is_written_well(href):
        del href
        raise LinkError("a link is longer than 8,190 bytes or has characters no URL has")
    if href.startswith(base_url) and href[len(base_url) : len(base_url) + 1] == "/":
        return href[len(base_url) :].partition("#")[0]  # as nearly all are
    if href.startswith("?"):
        return current.partition("?")[0] + href.partition("#")[0]
    if href.startswith("/") and not href.startswith("//"):
        return href.partition("#")[0]
    parts = split(href)
    del href
    if parts is None:
        raise LinkError("a link is not an absolute http(s) URL with a plain host")
    origin, target = parts[0], SecretStr(parts[1])
    del parts
    if origin != base and not (origin.is_platform and base_url != PRODUCTION):
        raise LinkError(f"a link leads to another origin, {origin}, than the session's, {base}")
    return str(target)


_STEP: Final = re.compile(r"([?&](?:\$|%24)skip=)([0-9]{1,15})(?=&|$)")


def skip_of(target: str) -> int | None:
    """The one ``$skip`` of a link, or None."""
    found = _STEP.findall(target)
    return int(found[0][1]) if len(found) == 1 else None


def with_skip(target: str, skip: int) -> str:
    """The same link at another ``$skip``."""
    return _STEP.sub(lambda match: f"{match[1]}{skip}", target)


_TOP: Final = re.compile(r"[?&](?:\$|%24)top=([0-9]{1,15})(?=&|$)")


def top_of(target: str) -> int | None:
    """The one ``$top`` of a link, or None."""
    found = _TOP.findall(target)
    return int(found[0]) if len(found) == 1 else None
