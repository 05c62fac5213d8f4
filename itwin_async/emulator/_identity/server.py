"""The sign-in host: who may have which token, as OAuth 2.0 has it (RFC 6749, 7009, 7636)."""

import base64
import hashlib
import hmac
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from itwin_async.emulator._arguments import check_number, check_str
from itwin_async.emulator._identity.authorization import AuthorizationRequest, NoRedirectError
from itwin_async.emulator._identity.clients import (
    API_SCOPE,
    OFFLINE_SCOPE,
    Client,
    authenticate,
    register_clients,
)
from itwin_async.emulator._identity.oauth import NO_STORE, OAuthError, read_form, require
from itwin_async.emulator._identity.tokens import (
    AuthorizationCode,
    Grant,
    IssuedTokens,
    RefreshToken,
)
from itwin_async.emulator._identity.users import SERVICE_USER, User, parse_users
from itwin_async.emulator._response import Response
from itwin_async.emulator._state.seed import JSON

_CODE_LIFETIME: Final = 300.0
_VERIFIER: Final = re.compile(r"[A-Za-z0-9._~-]{43,128}")


class IdentityServer:
    """Clients, users, and all that was issued to them."""

    def __init__(
        self,
        *,
        users: Sequence[str],
        redirect_uris: Sequence[str],
        token_lifetime: float,
        refresh_token_lifetime: float,
    ) -> None:
        check_number("token_lifetime", token_lifetime, above=True)
        check_number("refresh_token_lifetime", refresh_token_lifetime, above=True)
        self.users: dict[str, User] = parse_users(users)
        self.clients: dict[str, Client] = register_clients(redirect_uris)
        self.access_tokens: IssuedTokens[User] = IssuedTokens(token_lifetime)
        self.refresh_tokens: IssuedTokens[RefreshToken] = IssuedTokens(refresh_token_lifetime)
        self._codes = IssuedTokens[AuthorizationCode](_CODE_LIFETIME)
        self._grant_types: dict[str, Callable[[Client, Mapping[str, str]], Response]] = {
            "client_credentials": self._grant_client_credentials,
            "authorization_code": self._exchange_code,
            "refresh_token": self._refresh,
        }

    def find_user(self, name: str) -> User:
        """The user of this name; `ValueError` where there is none."""
        check_str("user", name)
        user = self.users.get(name)
        if user is None:
            raise ValueError(f"{name!r} is no user of the emulator: one of {', '.join(self.users)}")
        return user

    def sign_in_as(self, user: str | None, url: str) -> str:
        """Where the browser is sent after this user was chosen; None refuses."""
        parts = urlsplit(url)
        try:
            request = AuthorizationRequest.parse(
                self.clients, dict(parse_qsl(parts.query, keep_blank_values=True))
            )
        except NoRedirectError as error:
            raise ValueError(str(error)) from None
        return self.authorize(request, user, f"{parts.scheme}://{parts.netloc}")

    def authorize(self, request: AuthorizationRequest, user: str | None, origin: str) -> str:
        """Where the browser is sent: with a code for this user, or with an error."""
        try:
            request.check()
        except OAuthError as error:
            return request.redirect_error(origin, error)
        if user is None:
            denied = OAuthError("access_denied", "The user refused to sign in.")
            return request.redirect_error(origin, denied)
        grant = Grant(request.client, self.users[user], request.scopes)
        code = AuthorizationCode(grant, request.redirect_uri, request.challenge)
        return request.redirect(origin, code=self._codes.issue(code))

    def token(self, headers: Mapping[str, str], body: bytes) -> Response:
        """The response of the token endpoint to a form."""
        form = read_form(body)
        client = authenticate(self.clients, headers, form)
        grant_type = form.get("grant_type")
        if grant_type is None:
            raise OAuthError("invalid_request")
        grant = self._grant_types.get(grant_type)
        if grant is None:
            raise OAuthError("unsupported_grant_type")
        if grant_type not in client.grant_types:
            raise OAuthError("unauthorized_client")
        return grant(client, form)

    def revoke(self, headers: Mapping[str, str], body: bytes) -> Response:
        """The response of the revocation endpoint: success, also for an unknown token."""
        form = read_form(body)
        client = authenticate(self.clients, headers, form)
        token = require(form, "token")
        refresh_token = self.refresh_tokens.get(token)
        if refresh_token is not None and refresh_token.grant.client is client:
            refresh_token.grant.revoked = True
        self.access_tokens.revoke(token)
        return Response(headers=NO_STORE)

    def _grant_client_credentials(self, _client: Client, form: Mapping[str, str]) -> Response:
        if form.get("scope", API_SCOPE).split() != [API_SCOPE]:
            raise OAuthError("invalid_scope")
        return self._issue(SERVICE_USER, (API_SCOPE,))

    def _exchange_code(self, client: Client, form: Mapping[str, str]) -> Response:
        code = self._codes.get(require(form, "code"))
        if code is None or code.grant.client is not client:
            raise OAuthError("invalid_grant", "the code is unknown, expired or of another client")
        if code.used:
            # The code may have been stolen: revoke what was issued for it (RFC 6749, 4.1.2).
            code.grant.revoked = True
            raise OAuthError("invalid_grant", "the code was used before")
        if form.get("redirect_uri") != code.redirect_uri:
            raise OAuthError("invalid_grant", "redirect_uri is not that of the authorization")
        _check_verifier(code.challenge, form.get("code_verifier"))
        code.used = True
        return self._issue(code.grant.user, code.grant.scopes, code.grant)

    def _refresh(self, client: Client, form: Mapping[str, str]) -> Response:
        refresh_token = self.refresh_tokens.get(require(form, "refresh_token"))
        if refresh_token is None or refresh_token.grant.client is not client:
            raise OAuthError("invalid_grant", "the refresh token is unknown or has expired")
        grant = refresh_token.grant
        if refresh_token.used:
            grant.revoked = True
            raise OAuthError("invalid_grant", "the refresh token was used before")
        if grant.revoked:
            raise OAuthError("invalid_grant", "the refresh token was revoked")
        scopes = tuple(form["scope"].split()) if form.get("scope") else grant.scopes
        if not set(scopes) <= set(grant.scopes):
            raise OAuthError("invalid_scope")
        refresh_token.used = True
        return self._issue(grant.user, scopes, grant)

    def _issue(self, user: User, scopes: tuple[str, ...], grant: Grant | None = None) -> Response:
        lifetime = self.access_tokens.lifetime
        body: JSON = {
            "access_token": self.access_tokens.issue(user),
            "expires_in": int(lifetime) if lifetime == int(lifetime) else lifetime,
            "token_type": "Bearer",
            "scope": " ".join(scopes),
        }
        if grant is not None and OFFLINE_SCOPE in grant.scopes:
            body["refresh_token"] = self.refresh_tokens.issue(RefreshToken(grant))
        return Response(json=body, headers=NO_STORE)


def _check_verifier(challenge: str | None, verifier: str | None) -> None:
    """See that the verifier is the one of the challenge (RFC 7636)."""
    if challenge is None:
        if verifier is not None:
            raise OAuthError("invalid_grant", "there was no code_challenge")
        return
    if verifier is None or not _VERIFIER.fullmatch(verifier):
        raise OAuthError("invalid_grant", "code_verifier is missing or malformed")
    digest = hashlib.sha256(verifier.encode()).digest()
    expected = base64.urlsafe_b64encode(digest).rstrip(b"=")
    if not hmac.compare_digest(expected, challenge.encode()):
        raise OAuthError("invalid_grant", "code_verifier does not fit code_challenge")
