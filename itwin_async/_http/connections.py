"""How connections are made: through which proxy, and which certificates are trusted."""

import os
import re
import ssl
from base64 import b64encode
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import unquote

import msgspec

from itwin_async._core.redaction import one_line
from itwin_async._core.secrets import SecretStr, SecretValue
from itwin_async._core.urls import split
from itwin_async._core.validation import path_text

_EXAMPLE: Final = "http://proxy.example:8080"
_DELIMITER: Final = re.compile(r"[/?#\s]")  # in a user or password they are percent-encoded


class Proxy(msgspec.Struct, frozen=True):
    """A proxy: its URL without credentials, and the header that has them."""

    url: str
    authorization: SecretStr | None = None

    def options(self, url: str, headers: Mapping[str, str]) -> dict[str, Any]:
        """aiohttp's options of a request that goes through it."""
        if self.authorization is None:
            return {"proxy": self.url}
        own = {"Proxy-Authorization": self.authorization}
        if url.startswith("http:"):  # no tunnel: the proxy reads the request itself
            return {"headers": {**headers, **own}, "proxy": self.url}
        return {"proxy": self.url, "proxy_headers": own}


def parse_proxy(url: SecretValue) -> Proxy:
    """Parse the URL of a proxy; `TypeError` or `ValueError`, without its password, if it is none.

    ``url`` is such as ``http://user:password@proxy.example:8080``, percent-encoded.
    """
    if not isinstance(url.value, str):
        raise TypeError(f"proxy must be a str, not {type(url.value).__name__}")
    proxy = _parsed(url)
    if proxy is None:
        raise ValueError(
            f"proxy must be an http or https URL such as {_EXAMPLE}, without a path; a user and "
            "a password stand before an @, percent-encoded"
        )
    return proxy


def _parsed(url: SecretValue) -> Proxy | None:
    scheme, _, rest = url.value.partition("://")
    credentials, separator, address = rest.rpartition("@")
    parts = split(f"{scheme}://{address}")
    if parts is None or parts[1] != "/" or _DELIMITER.search(credentials):
        return None
    if not separator:
        return Proxy(str(parts[0]))
    user, _, password = credentials.partition(":")
    secret = f"{unquote(user)}:{unquote(password)}".encode()
    return Proxy(str(parts[0]), SecretStr(f"Basic {b64encode(secret).decode()}"))


def trusting(ca_file: str | os.PathLike[str]) -> ssl.SSLContext:
    """TLS that trusts the certificate authorities of a file as well as the system's own.

    Reads the file at once; `TypeError` or `ValueError` that names it where it cannot be used.
    """
    path = path_text("ca_file", ca_file)
    shown = one_line(os.fsencode(path).decode(errors="backslashreplace"))
    context = ssl.create_default_context()
    try:
        context.load_verify_locations(ca_file)
    except ssl.SSLError:
        raise ValueError(f"ca_file {shown} holds no certificates in PEM format") from None
    except OSError as error:
        raise ValueError(f"ca_file {shown} cannot be read: {error.strerror}") from None
    return context
