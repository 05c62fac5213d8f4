"""OAuth authorization code with PKCE: addresses, forms, what an answer means. No I/O.

RFC 6749 (the code), 7636 (PKCE, always S256), 7009 (revocation), 8252 (loopback redirects) and
9207 (the issuer in the answer).
"""

import base64
import hashlib
import secrets
from typing import Any, Final, cast
from urllib.parse import parse_qsl, quote, urlencode

import msgspec

from itwin_async._core.redaction import one_line
from itwin_async._core.secrets import SecretDict, SecretStr, SecretStrs
from itwin_async._core.urls import Origin, split
from itwin_async.errors import UnauthorizedError

_RANDOM_BYTES: Final = 48  # 64 characters, of which a verifier has from 43 to 128
_MAX_PARAMETERS: Final = 32  # of a redirect's query


class ForeignStateError(ValueError):
    """An answer to another sign-in than this one."""


def check_authority(authority: str) -> str:
    """The base of a sign-in host without a slash at its end; `ValueError` where it cannot be."""
    parts = split(authority)
    if parts is None or any(mark in authority for mark in "?#"):
        raise ValueError(
            "authority must be an absolute https URL without a query, such as "
            "https://ims.bentley.com"
        )
    _check_secure("authority", parts[0])
    return authority.rstrip("/")


def check_redirect(uri: str) -> Origin:
    """The origin of a redirect address; `ValueError` unless it is https or on loopback."""
    parts = split(uri)
    if parts is None or "#" in uri:
        raise ValueError(
            "a redirect_uri must be an absolute URL without a fragment, such as "
            "http://localhost:3000/signin-callback"
        )
    _check_secure("a redirect_uri", parts[0])
    return parts[0]


def _check_secure(name: str, origin: Origin) -> None:
    if origin.scheme == "http" and not origin.is_loopback:
        raise ValueError(
            f"{name} must be https: plain http is for loopback only, not {origin.host}"
        )


class AuthorizationRequest(msgspec.Struct, frozen=True):
    """A sign-in that was begun: the address for the browser, and what its answer is checked by."""

    authority: str
    client_id: str
    redirect_uri: str
    scope: str
    state: SecretStr
    verifier: SecretStr

    @property
    def url(self) -> str:
        """The address to open in a browser. It holds no secret: the challenge is a hash."""
        digest = hashlib.sha256(self.verifier.encode()).digest()
        parameters = {
            "response_type": "code",
            "client_id": self.client_id,
            "redirect_uri": self.redirect_uri,
            "scope": self.scope,
            "state": str(self.state),
            "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
            "code_challenge_method": "S256",
        }
        return f"{self.authority}/connect/authorize?{urlencode(parameters, quote_via=quote)}"


def authorization_request(
    authority: str, client_id: str, redirect_uri: str, scope: str
) -> AuthorizationRequest:
    """A new request with a state and a verifier of its own."""
    state = SecretStr(secrets.token_urlsafe(_RANDOM_BYTES))
    verifier = SecretStr(secrets.token_urlsafe(_RANDOM_BYTES))
    return AuthorizationRequest(authority, client_id, redirect_uri, scope, state, verifier)


def parse_redirect(request: AuthorizationRequest, query: SecretStr) -> SecretStr:
    """The code in the query of the address that the browser was sent to.

    Raises `ForeignStateError` for an answer to another request, `ValueError` for one of another
    issuer or without a code, and `UnauthorizedError`, with the host's ``code``, for a refusal.
    """
    fields = _parameters(query)
    state = fields.get("state", "").encode("utf-8", "replace")
    if not secrets.compare_digest(state, request.state.encode()):
        raise ForeignStateError(
            "the state of this address is not that of this sign-in: use the address to which the "
            "browser was sent after opening this sign-in's url"
        )
    issuer = fields.get("iss")
    if issuer is not None and issuer.rstrip("/") != request.authority:
        raise ValueError(
            f"the answer's issuer is {one_line(issuer, longest=100)!r}, and not "
            f"{request.authority!r}"
        )
    hidden = SecretStrs((fields.get("code", ""), request.verifier, request.state))
    if "error" in fields:
        reason = one_line(fields["error"], longest=100, secrets=hidden)
        description = one_line(fields.get("error_description", ""), secrets=hidden)
        error = UnauthorizedError(description or "the sign-in was refused")
        error.code = reason
        raise error
    if not fields.get("code"):
        raise ValueError("this address has no code: sign in again")
    return SecretStr(fields["code"])


def _parameters(query: SecretStr) -> SecretDict:
    try:
        return SecretDict(parse_qsl(query, keep_blank_values=True, max_num_fields=_MAX_PARAMETERS))
    except ValueError:
        return SecretDict()


def query_of(address: SecretStr) -> SecretStr:
    """The query of an address, which may also be given as the query alone."""
    before, mark, after = address.strip().partition("?")
    return SecretStr((after if mark else before).partition("#")[0])


def code_form(
    request: AuthorizationRequest, code: SecretStr, client_secret: SecretStr | None
) -> SecretDict:
    """The form that asks for tokens in exchange for a code."""
    form = SecretDict(
        grant_type="authorization_code",
        code=str(code),
        redirect_uri=request.redirect_uri,
        client_id=request.client_id,
        code_verifier=str(request.verifier),
    )
    return _with_secret(form, client_secret)


def refresh_form(
    client_id: str, refresh_token: SecretStr, client_secret: SecretStr | None
) -> SecretDict:
    """The form that asks for a new access token."""
    form = SecretDict(
        grant_type="refresh_token", refresh_token=str(refresh_token), client_id=client_id
    )
    return _with_secret(form, client_secret)


def revocation_form(
    client_id: str, refresh_token: SecretStr, client_secret: SecretStr | None
) -> SecretDict:
    """The form that ends a refresh token."""
    form = SecretDict(
        token=str(refresh_token),
        token_type_hint="refresh_token",  # noqa: S106 - a kind of token
        client_id=client_id,
    )
    return _with_secret(form, client_secret)


def _with_secret(form: SecretDict, client_secret: SecretStr | None) -> SecretDict:
    if client_secret is not None:
        form["client_secret"] = str(client_secret)
    return form


def parse_refresh_token(answer: object) -> SecretStr | None:
    """The refresh token of a token endpoint's answer; None where it grants or repeats none."""
    fields = SecretDict(cast("dict[str, Any]", answer) if isinstance(answer, dict) else {})
    del answer  # a report of an error shows the locals of its frames
    token: object = fields.get("refresh_token")
    return SecretStr(token) if isinstance(token, str) and token else None
