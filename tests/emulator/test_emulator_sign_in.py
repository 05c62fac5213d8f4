"""People sign in at the emulator: the page, codes, refresh tokens, and who may do what."""

import base64
import hashlib
import html
import re
from urllib.parse import parse_qsl, urlencode, urlsplit

import aiohttp
import pytest

from itwin_async.emulator import Emulator, Status

REDIRECT = "http://localhost:3000/signin-callback"
VERIFIER = "v" * 43
IMODEL = "/imodels/5e19bee0-3aea-4355-a9f0-c6df9989ee7d"
DATA = f"{IMODEL}/changesets/1/extendeddata"


def challenge(verifier=VERIFIER):
    digest = hashlib.sha256(verifier.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def authorize_url(emulator, **changes):
    query = {
        "response_type": "code",
        "client_id": emulator.user_client_id,
        "redirect_uri": REDIRECT,
        "scope": "itwin-platform offline_access",
        "state": "s+ &=1",
        "code_challenge": challenge(),
        "code_challenge_method": "S256",
    } | changes
    shown = {name: value for name, value in query.items() if value is not None}
    return f"{emulator.url}/connect/authorize?{urlencode(shown)}"


def answered(address, redirect_uri=REDIRECT):
    start, _, query = address.partition("?")
    assert start == redirect_uri
    return dict(parse_qsl(query, strict_parsing=True))


async def ask(web, emulator, path="/connect/token", **form):
    fields = {"client_id": emulator.user_client_id} | form
    data = {name: value for name, value in fields.items() if value is not None}
    status, body, headers = await web(emulator, path, "POST", token=False, data=data)
    if path == "/connect/token":
        assert headers["Cache-Control"] == "no-store"
    return status, body


def sign_in(emulator, user="owner", **changes):
    return answered(emulator.sign_in_as(user, authorize_url(emulator, **changes)))["code"]


async def exchange(web, emulator, code, /, **changes):
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": REDIRECT,
        "code_verifier": VERIFIER,
    } | changes
    return await ask(web, emulator, **form)


async def refresh(web, emulator, token, /, **changes):
    form = {"grant_type": "refresh_token", "refresh_token": token} | changes
    return await ask(web, emulator, **form)


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


async def test_a_user_is_chosen_in_the_page_and_the_code_becomes_a_token(web, emulator):
    url = authorize_url(emulator)
    status, page, headers = await web(emulator, url, token=False)
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert headers["Cache-Control"] == "no-store"
    assert re.findall(rb'name="user" value="(\w+)"', page) == [b"owner", b"reader", b"guest"]
    assert b'name="refuse"' in page
    status, _, headers = await web(
        emulator, url, "POST", token=False, data={"user": "reader"}, allow_redirects=False
    )
    found = answered(headers["Location"])
    assert (status, found["state"], found["iss"]) == (302, "s+ &=1", emulator.url)
    status, body = await exchange(web, emulator, found["code"])
    assert status == 200
    assert (body["token_type"], body["expires_in"]) == ("Bearer", 3600)
    assert body["scope"] == "itwin-platform offline_access"
    me = await web(emulator, "/users/me", token=False, headers=bearer(body["access_token"]))
    assert me[0] == 200
    assert me[1]["user"]["email"] == "reader@example.com"
    assert emulator.count("authorize") == 2


async def test_the_page_shows_names_escaped(web):
    async with Emulator(users=['<b>"x"&', "ada lovelace:reader"]) as emulator:
        _, page, _ = await web(emulator, authorize_url(emulator), token=False)
        assert b"<b>" not in page
        shown = [html.unescape(item) for item in re.findall(r'value="([^"]*)"', page.decode())]
        assert shown[:2] == ['<b>"x"&', "ada lovelace"]
        assert b"Ada Lovelace (ada.lovelace@example.com, may read)" in page


async def test_a_refusal_leads_back_with_its_reason(web, emulator):
    url = authorize_url(emulator)
    _, _, headers = await web(
        emulator, url, "POST", token=False, data={"refuse": "yes"}, allow_redirects=False
    )
    for address in (headers["Location"], emulator.sign_in_as(None, url)):
        assert answered(address) == {
            "error": "access_denied",
            "error_description": "The user refused to sign in.",
            "state": "s+ &=1",
            "iss": emulator.url,
        }


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"response_type": None}, "invalid_request"),
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"scope": None}, "invalid_scope"),
        ({"scope": "itwin-platform extra"}, "invalid_scope"),
        ({"code_challenge": None}, "invalid_request"),
        ({"code_challenge": "short"}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge_method": None}, "invalid_request"),
        ({"prompt": "none"}, "login_required"),
    ],
)
async def test_a_wrong_request_leads_back_with_an_error(web, emulator, changes, code):
    url = authorize_url(emulator, **changes)
    status, _, headers = await web(emulator, url, token=False, allow_redirects=False)
    found = answered(headers["Location"])
    assert (status, found["error"], found["state"]) == (302, code, "s+ &=1")
    assert found["error_description"]


@pytest.mark.parametrize(
    "changes",
    [
        {"client_id": "nobody"},
        {"client_id": "service-emulator"},
        {"client_id": None},
        {"redirect_uri": "http://localhost:3000/other"},
        {"redirect_uri": "https://evil.example/signin-callback"},
        {"redirect_uri": None},
    ],
)
async def test_an_unknown_client_or_address_is_never_redirected(web, emulator, changes):
    url = authorize_url(emulator, **changes)
    for method in ("GET", "POST"):
        status, page, headers = await web(emulator, url, method, token=False, allow_redirects=False)
        assert status == 400
        assert "Location" not in headers
        assert b"evil" not in page
    with pytest.raises(ValueError, match=r"client_id|redirect_uri"):
        emulator.sign_in_as("owner", url)


async def test_an_unknown_user(web, emulator):
    url = authorize_url(emulator)
    status, _, _ = await web(emulator, url, "POST", token=False, data={"user": "nobody"})
    assert status == 400
    with pytest.raises(ValueError, match="'nobody' is no user of the emulator: one of owner, re"):
        emulator.sign_in_as("nobody", url)
    with pytest.raises(ValueError, match="'nobody' is no user"):
        emulator.issue_token(user="nobody")


async def test_a_code_is_used_once_and_what_it_gave_ends_with_the_second_time(web, emulator):
    code = sign_in(emulator)
    status, body = await exchange(web, emulator, code)
    assert status == 200
    status, error = await exchange(web, emulator, code)
    assert (status, error["error"]) == (400, "invalid_grant")
    assert (await refresh(web, emulator, body["refresh_token"]))[0] == 400


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"code_verifier": "w" * 43}, "invalid_grant"),
        ({"code_verifier": "short"}, "invalid_grant"),
        ({"code_verifier": None}, "invalid_grant"),
        ({"redirect_uri": "http://localhost:31234/signin-callback"}, "invalid_grant"),
        ({"redirect_uri": None}, "invalid_grant"),
        ({"client_id": "webapp-emulator"}, "invalid_client"),
        (
            {"client_id": "webapp-emulator", "client_secret": "emulator-web-secret-91d7e4"},
            "invalid_grant",
        ),
        (
            {"client_id": "service-emulator", "client_secret": "emulator-secret-5f0c2b"},
            "unauthorized_client",
        ),
        ({"client_secret": "of a native application"}, "invalid_client"),
        ({"code": "other"}, "invalid_grant"),
        ({"code": None}, "invalid_request"),
    ],
)
async def test_a_code_is_of_one_client_one_address_one_verifier(web, emulator, changes, code):
    issued = sign_in(emulator)
    status, body = await exchange(web, emulator, issued, **changes)
    assert (status, body["error"]) == (400, code)
    assert (await exchange(web, emulator, issued))[0] == 200  # it was not used up


async def test_a_code_expires(web, emulator, forward):
    code = sign_in(emulator)
    forward(301)
    assert (await exchange(web, emulator, code))[1]["error"] == "invalid_grant"


async def test_no_refresh_token_without_offline_access(web, emulator):
    code = sign_in(emulator, scope="itwin-platform")
    _, body = await exchange(web, emulator, code)
    assert "refresh_token" not in body


async def test_a_refresh_token_is_used_once_and_reuse_ends_the_family(web, emulator):
    _, first = await exchange(web, emulator, sign_in(emulator))
    status, second = await refresh(web, emulator, first["refresh_token"])
    assert status == 200
    assert second["access_token"] != first["access_token"]
    assert second["refresh_token"] != first["refresh_token"]
    _, third = await refresh(web, emulator, second["refresh_token"])
    status, body = await refresh(web, emulator, first["refresh_token"])
    assert (status, body["error"]) == (400, "invalid_grant")
    status, body = await refresh(web, emulator, third["refresh_token"])
    assert (status, body["error"]) == (400, "invalid_grant")
    # Another sign-in of the same user is another family.
    _, other = await exchange(web, emulator, sign_in(emulator))
    assert (await refresh(web, emulator, other["refresh_token"]))[0] == 200


async def test_refresh_tokens_expire(web, forward):
    async with Emulator(refresh_token_lifetime=60) as emulator:
        _, body = await exchange(web, emulator, sign_in(emulator))
        forward(59)
        _, body = await refresh(web, emulator, body["refresh_token"])
        forward(60)
        status, error = await refresh(web, emulator, body["refresh_token"])
        assert (status, error["error"]) == (400, "invalid_grant")
        _, body = await exchange(web, emulator, sign_in(emulator))
        emulator.expire_refresh_tokens()
        assert (await refresh(web, emulator, body["refresh_token"]))[0] == 400


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"client_id": "webapp-emulator"}, "invalid_client"),
        (
            {"client_id": "webapp-emulator", "client_secret": "emulator-web-secret-91d7e4"},
            "invalid_grant",
        ),
        ({"refresh_token": "other"}, "invalid_grant"),
        ({"refresh_token": None}, "invalid_request"),
        ({"scope": "itwin-platform email"}, "invalid_scope"),
    ],
)
async def test_a_refresh_token_is_of_one_client(web, emulator, changes, code):
    _, body = await exchange(web, emulator, sign_in(emulator))
    status, error = await refresh(web, emulator, body["refresh_token"], **changes)
    assert (status, error["error"]) == (400, code)
    assert (await refresh(web, emulator, body["refresh_token"]))[0] == 200


async def test_a_web_application_shows_its_secret(web):
    redirect = "https://app.example/signed-in?from=itwin"
    async with Emulator(redirect_uris=[redirect]) as emulator:
        client_id, secret = emulator.web_client
        url = authorize_url(
            emulator,
            client_id=client_id,
            redirect_uri=redirect,
            code_challenge=None,
            code_challenge_method=None,
        )
        address = emulator.sign_in_as("owner", url)
        assert address.startswith(f"{redirect}&code=")
        found = dict(parse_qsl(urlsplit(address).query))
        form = {"client_id": client_id, "redirect_uri": redirect, "code_verifier": None}
        status, body = await exchange(web, emulator, found["code"], **form)
        assert (status, body["error"]) == (400, "invalid_client")
        status, body = await exchange(web, emulator, found["code"], **form, client_secret=secret)
        assert status == 200
        basic = aiohttp.encode_basic_auth(client_id, secret)
        status, body, _ = await web(
            emulator,
            "/connect/token",
            "POST",
            token=False,
            data={"grant_type": "refresh_token", "refresh_token": body["refresh_token"]},
            headers={"Authorization": basic},
        )
        assert status == 200
        assert body["refresh_token"]


async def test_a_revoked_refresh_token_is_of_no_use(web, emulator):
    _, body = await exchange(web, emulator, sign_in(emulator))
    revoke = {"path": "/connect/revocation", "token_type_hint": "refresh_token"}
    client_id, secret = emulator.web_client
    other = {"client_id": client_id, "client_secret": secret}
    assert (await ask(web, emulator, **revoke, **other, token=body["refresh_token"]))[0] == 200
    _, body = await refresh(web, emulator, body["refresh_token"])  # another client's is kept
    status, nothing = await ask(web, emulator, **revoke, token=body["refresh_token"])
    assert (status, nothing) == (200, b"")
    assert (await refresh(web, emulator, body["refresh_token"]))[1]["error"] == "invalid_grant"
    # An access token that is revoked ends as well; the one before lives on.
    assert (await web(emulator, IMODEL, token=False, headers=bearer(body["access_token"])))[
        0
    ] == 200
    assert (await ask(web, emulator, **revoke, token=body["access_token"]))[0] == 200
    assert (await web(emulator, IMODEL, token=False, headers=bearer(body["access_token"])))[
        0
    ] == 401
    assert (await ask(web, emulator, **revoke, token="unknown"))[0] == 200
    assert (await ask(web, emulator, **revoke))[1]["error"] == "invalid_request"
    assert (await ask(web, emulator, **revoke, client_id="x"))[1]["error"] == "invalid_client"


async def test_what_each_user_may_do(web, emulator, refused):
    data = {"data": base64.b64encode(b"{}").decode()}

    async def call(user, target, method="GET", **kw):
        headers = bearer(emulator.issue_token(user=user))
        return await web(emulator, target, method, token=False, headers=headers, **kw)

    for user in ("owner", "reader"):
        assert (await call(user, IMODEL))[0] == 200
        assert len((await call(user, "/itwins/"))[1]["iTwins"]) == 5
    refused(await call("reader", DATA, "POST", json=data), 403, "InsufficientPermissions")
    refused(await call("owner", DATA, "POST", json=data), 409, "DataConflict")
    for target in (IMODEL, "/extensions/", "/edfs/packages"):
        refused(await call("guest", target), 403, "InsufficientPermissions")
    status, body, _ = await call("guest", "/itwins/")
    assert (status, body["iTwins"]) == (200, [])
    assert (await call("guest", "/users/me"))[1]["user"]["displayName"] == "Guest Example"


async def test_who_the_caller_is(web, emulator, refused):
    status, body, _ = await web(emulator, "/users/me")
    assert status == 200
    assert set(body) == {"user"}
    assert body["user"] == {
        "id": body["user"]["id"],
        "displayName": "Emulator Service",
        "givenName": "Emulator",
        "surname": "Service",
        "email": "service-emulator@apps.imsoidc.bentley.com",
        "alternateEmail": None,
        "phone": None,
        "organizationName": "Acme Corp.",
        "city": "Exton",
        "country": "US",
        "language": "en",
        "createdDateTime": "2020-03-25T04:36:40.4210000Z",
    }
    refused(await web(emulator, "/users/me", token=False), 401, "HeaderNotFound")
    _, claims, _ = await web(
        emulator,
        "/connect/userinfo",
        token=False,
        headers=bearer(emulator.issue_token(user="reader")),
    )
    assert claims["preferred_username"] == "reader@example.com"
    for headers in ({}, {"Authorization": "Bearer x"}):
        status, body, got = await web(emulator, "/connect/userinfo", token=False, headers=headers)
        assert (status, body) == (401, {"error": "invalid_token"})
        assert got["WWW-Authenticate"].startswith("Bearer")


async def test_the_discovery_document(web, emulator):
    status, body, _ = await web(emulator, "/.well-known/openid-configuration", token=False)
    assert (status, body["issuer"]) == (200, emulator.url)
    assert body["token_endpoint"] == emulator.token_url
    for name, method in (
        ("authorization_endpoint", "GET"),
        ("token_endpoint", "POST"),
        ("revocation_endpoint", "POST"),
        ("userinfo_endpoint", "GET"),
        ("end_session_endpoint", "GET"),
        ("jwks_uri", "GET"),
    ):
        await web(emulator, body[name], method, token=False)
        assert emulator.requests[-1].operation is not None
    assert body["code_challenge_methods_supported"] == ["S256"]


async def test_the_end_of_a_session(web, emulator):
    status, page, _ = await web(emulator, "/connect/endsession", token=False)
    assert status == 200
    assert b"signed out" in page
    for address, state, expected in (
        (REDIRECT, "a b", f"{REDIRECT}?state=a+b"),
        (REDIRECT, "", REDIRECT),
        ("https://evil.example/", "", None),
    ):
        query = urlencode({"post_logout_redirect_uri": address, "state": state})
        _, _, headers = await web(
            emulator, f"/connect/endsession?{query}", token=False, allow_redirects=False
        )
        assert headers.get("Location") == expected


@pytest.mark.parametrize("operation", ["authorize", "token", "revocation", "get_me"])
async def test_each_endpoint_meets_its_faults(web, emulator, operation):
    calls = {
        "authorize": (authorize_url(emulator), "GET"),
        "token": ("/connect/token", "POST"),
        "revocation": ("/connect/revocation", "POST"),
        "get_me": ("/users/me", "GET"),
    }
    emulator.faults.add(operation, Status(502))
    status, body, _ = await web(emulator, *calls[operation])
    assert status == 502
    expected = "server_error" if operation != "get_me" else {"code": "Unknown"}
    error = body["error"]
    assert error == expected or error["code"] == expected["code"]
    assert emulator.count(operation) == 1


@pytest.mark.parametrize(
    ("options", "kind", "sentence"),
    [
        ({"users": []}, ValueError, "users must not be empty"),
        ({"users": "ada"}, TypeError, "users must be a sequence of str such as"),
        ({"users": {"ada": "reader"}}, TypeError, "such as 'ada:reader', not dict"),
        ({"users": [1]}, TypeError, "a user must be a str, not int"),
        ({"users": [":reader"]}, ValueError, "a user must have a name, not ':reader'"),
        ({"users": ["a:x"]}, ValueError, "must be owner, reader, viewer or none, not 'x'"),
        ({"users": ["a", "a:reader"]}, ValueError, "the user 'a' is there twice"),
        ({"redirect_uris": "http://x/"}, TypeError, "must be a sequence of str, not str"),
        ({"redirect_uris": ["x"]}, ValueError, "must be an http or https address"),
        ({"redirect_uris": [1]}, TypeError, "a redirect URI must be a str, not int"),
        ({"refresh_token_lifetime": 0}, ValueError, "refresh_token_lifetime must be above 0"),
    ],
)
def test_wrong_options(options, kind, sentence):
    with pytest.raises(kind, match=re.escape(sentence)):
        Emulator(**options)
