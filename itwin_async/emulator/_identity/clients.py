"""The registered applications, and how they authenticate themselves at the sign-in host."""

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, cast
from urllib.parse import unquote_plus, urlsplit

from itwin_async.emulator import _arguments
from itwin_async.emulator._identity.oauth import OAuthError

# Ids and secrets have unreserved characters only: they are pasted into forms and shells.
SERVICE_CLIENT_ID: Final = "service-emulator"
SERVICE_CLIENT_SECRET: Final = "emulator-secret-5f0c2b"  # noqa: S105
USER_CLIENT_ID: Final = "native-emulator"
WEB_CLIENT_ID: Final = "webapp-emulator"
WEB_CLIENT_SECRET: Final = "emulator-web-secret-91d7e4"  # noqa: S105

API_SCOPE: Final = "itwin-platform"
OFFLINE_SCOPE: Final = "offline_access"
SCOPES: Final = (API_SCOPE, OFFLINE_SCOPE, "openid", "profile", "email", "organization")

DEFAULT_REDIRECT_URIS: Final = (
    "http://localhost:3000/signin-callback",
    "http://localhost:31234/signin-callback",
    "http://localhost:41234/signin-callback",
    "http://localhost:51234/signin-callback",
    "http://localhost:8000/signin-callback",
    "http://127.0.0.1:8000/signin-callback",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """One application; ``secret`` is None for a native one."""

    id: str
    secret: str | None = field(default=None, repr=False)
    grant_types: frozenset[str]
    redirect_uris: tuple[str, ...] = ()


def register_clients(redirect_uris: Sequence[str]) -> dict[str, Client]:
    """The service, the native and the web application, by client id."""
    _check_redirect_uris(redirect_uris)
    signs_in = frozenset({"authorization_code", "refresh_token"})
    uris = tuple(redirect_uris)
    clients = (
        Client(
            id=SERVICE_CLIENT_ID,
            secret=SERVICE_CLIENT_SECRET,
            grant_types=frozenset({"client_credentials"}),
        ),
        Client(id=USER_CLIENT_ID, grant_types=signs_in, redirect_uris=uris),
        Client(
            id=WEB_CLIENT_ID, secret=WEB_CLIENT_SECRET, grant_types=signs_in, redirect_uris=uris
        ),
    )
    return {client.id: client for client in clients}


def _check_redirect_uris(uris: object) -> None:
    if isinstance(uris, str) or not isinstance(uris, Sequence):
        kind = _arguments.kind_of(uris)
        raise TypeError(f"redirect_uris must be a sequence of str, not {kind}")
    for uri in cast("Sequence[object]", uris):
        _arguments.check_str("a redirect URI", uri)
        parts = urlsplit(cast("str", uri))
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.fragment:
            raise ValueError(
                f"a redirect URI must be an http or https address without a fragment, not {uri!r}"
            )


def authenticate(
    clients: Mapping[str, Client], headers: Mapping[str, str], form: Mapping[str, str]
) -> Client:
    """The client that sent this form, by HTTP Basic or by the fields of the form."""
    scheme, _, basic = headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "basic":
        try:
            text = base64.b64decode(basic.strip(), validate=True).decode()
        except (ValueError, binascii.Error):
            text = ""
        id, _, secret = text.partition(":")
        # RFC 6749 wants both parts URL-encoded first; many clients leave that out.
        for pair in ((id, secret), (unquote_plus(id), unquote_plus(secret))):
            client = clients.get(pair[0])
            if client is not None and client.secret is not None and client.secret == pair[1]:
                return client
        raise OAuthError("invalid_client", status=401, headers={"WWW-Authenticate": "Basic"})
    client = clients.get(form.get("client_id", ""))
    if client is None or client.secret != form.get("client_secret"):
        raise OAuthError("invalid_client")
    return client
