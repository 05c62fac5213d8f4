"""The request that a browser brings to the authorization endpoint, and the way back."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode

from itwin_async.emulator._identity.clients import SCOPES, Client
from itwin_async.emulator._identity.oauth import OAuthError

# The base64url of a SHA-256.
_CHALLENGE: Final = re.compile(r"[A-Za-z0-9_-]{43}")


class NoRedirectError(Exception):
    """The request cannot be answered by a redirect: the client or its address is not known."""


@dataclass(frozen=True, slots=True)
class AuthorizationRequest:
    """The parameters of one authorization request."""

    client: Client
    redirect_uri: str
    state: str | None
    query: Mapping[str, str]

    @classmethod
    def parse(
        cls, clients: Mapping[str, Client], query: Mapping[str, str]
    ) -> "AuthorizationRequest":
        """Find the client and its redirect URI; `NoRedirectError` where either is not known."""
        client = clients.get(query.get("client_id", ""))
        if client is None or "authorization_code" not in client.grant_types:
            raise NoRedirectError("client_id is not that of an application that signs in users.")
        redirect_uri = query.get("redirect_uri", "")
        if redirect_uri not in client.redirect_uris:
            raise NoRedirectError("redirect_uri is not one of those registered.")
        return cls(client, redirect_uri, query.get("state"), query)

    @property
    def scopes(self) -> tuple[str, ...]:
        """The scopes that are asked for."""
        return tuple(self.query.get("scope", "").split())

    @property
    def challenge(self) -> str | None:
        """The PKCE challenge."""
        return self.query.get("code_challenge")

    def check(self) -> None:
        """`OAuthError` for what is wrong with the other parameters."""
        response_type = self.query.get("response_type")
        if response_type is None:
            raise OAuthError("invalid_request", "response_type is missing")
        if response_type != "code":
            raise OAuthError("unsupported_response_type", "response_type must be code")
        if not self.scopes or not set(self.scopes) <= set(SCOPES):
            raise OAuthError("invalid_scope", f"scope must be of {' '.join(SCOPES)}")
        if self.challenge is None:
            if self.client.secret is None:
                raise OAuthError("invalid_request", "code challenge required")
        elif self.query.get("code_challenge_method") != "S256":
            raise OAuthError("invalid_request", "transform algorithm not supported")
        elif not _CHALLENGE.fullmatch(self.challenge):
            raise OAuthError("invalid_request", "code_challenge is not that of a SHA-256")
        if self.query.get("prompt") == "none":
            raise OAuthError("login_required", "nobody is signed in")

    def redirect(self, origin: str, **parameters: str) -> str:
        """The redirect URI with these parameters, the state and the issuer (RFC 9207)."""
        if self.state is not None:
            parameters["state"] = self.state
        parameters["iss"] = origin
        separator = "&" if "?" in self.redirect_uri else "?"
        return f"{self.redirect_uri}{separator}{urlencode(parameters)}"

    def redirect_error(self, origin: str, error: OAuthError) -> str:
        """The redirect URI with an error."""
        description = {"error_description": error.description} if error.description else {}
        return self.redirect(origin, error=error.code, **description)
