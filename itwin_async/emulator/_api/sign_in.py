"""The endpoints of the sign-in host."""

from urllib.parse import parse_qsl, urlencode

from itwin_async.emulator._api.request import Request
from itwin_async.emulator._identity.authorization import AuthorizationRequest, NoRedirectError
from itwin_async.emulator._identity.clients import SCOPES
from itwin_async.emulator._identity.oauth import NO_STORE, OAuthError, read_form
from itwin_async.emulator._identity.pages import message_page, sign_in_page
from itwin_async.emulator._response import Response


def _redirect(address: str) -> Response:
    return Response(status=302, headers={**NO_STORE, "Location": address})


def authorize(request: Request) -> Response:
    """Show the users to choose from; the form of that page is posted here, and leads back."""
    identity = request.identity
    try:
        authorization = AuthorizationRequest.parse(identity.clients, dict(request.query))
    except NoRedirectError as error:
        return message_page("Cannot sign in", str(error), status=400)
    try:
        authorization.check()
    except OAuthError as error:
        return _redirect(authorization.redirect_error(request.origin, error))
    if request.method != "POST":
        client_id, scopes = authorization.client.id, authorization.scopes
        return sign_in_page(client_id, scopes, identity.users.values())
    form = read_form(request.body)
    user = None if "refuse" in form else form.get("user", "")
    if user is not None and user not in identity.users:
        return message_page("Cannot sign in", "There is no such user.", status=400)
    return _redirect(identity.authorize(authorization, user, request.origin))


def token(request: Request) -> Response:
    """Issue tokens for client credentials, a code, or a refresh token."""
    return request.identity.token(request.headers, request.body)


def revocation(request: Request) -> Response:
    """Revoke a token, and with a refresh token its whole family."""
    return request.identity.revoke(request.headers, request.body)


def end_session(request: Request) -> Response:
    """Say that the user is signed out, or redirect to the address that the client asks for."""
    query = dict(request.query) | dict(parse_qsl(request.body.decode("latin-1")))
    address = query.get("post_logout_redirect_uri")
    registered = {
        uri for client in request.identity.clients.values() for uri in client.redirect_uris
    }
    if address not in registered:
        return message_page("Signed out", "You are signed out and may close this page.")
    state = query.get("state")
    return _redirect(f"{address}?{urlencode({'state': state})}" if state else address)


def userinfo(request: Request) -> Response:
    """The claims of the user whose token is sent."""
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    user = request.identity.access_tokens.get(value) if scheme.lower() == "bearer" else None
    if user is None:
        challenge = {"WWW-Authenticate": 'Bearer error="invalid_token"'}
        raise OAuthError("invalid_token", status=401, headers=challenge)
    return Response(json=user.to_claims(), headers=NO_STORE)


def discovery(request: Request) -> Response:
    """The discovery document."""
    issuer = request.origin
    return Response(
        json={
            "issuer": issuer,
            "authorization_endpoint": f"{issuer}/connect/authorize",
            "token_endpoint": f"{issuer}/connect/token",
            "userinfo_endpoint": f"{issuer}/connect/userinfo",
            "revocation_endpoint": f"{issuer}/connect/revocation",
            "end_session_endpoint": f"{issuer}/connect/endsession",
            "jwks_uri": f"{issuer}/.well-known/openid-configuration/jwks",
            "scopes_supported": list(SCOPES),
            "response_types_supported": ["code"],
            "response_modes_supported": ["query"],
            "grant_types_supported": [
                "authorization_code",
                "client_credentials",
                "refresh_token",
            ],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "token_endpoint_auth_methods_supported": [
                "client_secret_basic",
                "client_secret_post",
                "none",
            ],
            "code_challenge_methods_supported": ["S256"],
            "authorization_response_iss_parameter_supported": True,
        }
    )


def jwks(_request: Request) -> Response:
    """The keys that sign tokens: none, since the tokens of the emulator are opaque."""
    return Response(json={"keys": []})
