import asyncio
from urllib.parse import quote

import aiohttp
import pytest
from support import Clock, until

from itwin_async.emulator import Emulator, Throttle

IMODEL = "/imodels/5e19bee0-3aea-4355-a9f0-c6df9989ee7d"


def form(emulator, **changes):
    credentials = emulator.credentials
    fields = {
        "grant_type": "client_credentials",
        "client_id": credentials.client_id,
        "client_secret": credentials.client_secret,
        "scope": "itwin-platform",
    } | changes
    return {name: value for name, value in fields.items() if value is not None}


async def ask(web, emulator, **kw):
    return await web(emulator, emulator.token_url, "POST", token=False, **kw)


async def test_a_token_by_form_and_by_basic_opens_the_api(web, emulator):
    assert emulator.credentials.token_url == emulator.token_url
    credentials = emulator.credentials
    basic = aiohttp.encode_basic_auth(credentials.client_id, credentials.client_secret)
    coded = aiohttp.encode_basic_auth(
        quote(credentials.client_id, safe=""), quote(credentials.client_secret, safe="")
    )
    bare = form(emulator, client_id=None, client_secret=None, scope=None)
    for kw in (
        {"data": form(emulator)},
        {"data": bare, "headers": {"Authorization": basic}},
        {"data": bare, "headers": {"Authorization": coded}},
    ):
        status, body, headers = await ask(web, emulator, **kw)
        assert status == 200
        assert (body["token_type"], body["expires_in"]) == ("Bearer", 3600)
        assert headers["Cache-Control"] == "no-store"
        bearer = {"Authorization": f"Bearer {body['access_token']}"}
        assert (await web(emulator, IMODEL, token=False, headers=bearer))[0] == 200


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"client_secret": "no"}, 400, "invalid_client"),
        ({"client_id": None}, 400, "invalid_client"),
        ({"grant_type": "password"}, 400, "unsupported_grant_type"),
        ({"grant_type": None}, 400, "invalid_request"),
        ({"scope": "openid itwin-platform"}, 400, "invalid_scope"),
    ],
)
async def test_the_token_endpoint_refuses_as_oauth_does(web, emulator, changes, status, code):
    got, body, _ = await ask(web, emulator, data=form(emulator, **changes))
    assert (got, body) == (status, {"error": code})


async def test_wrong_basic_is_401(web, emulator):
    for value in (aiohttp.encode_basic_auth("a", "b"), "Basic %%%"):
        got, body, headers = await ask(
            web, emulator, data={"grant_type": "x"}, headers={"Authorization": value}
        )
        assert (got, body["error"], headers["WWW-Authenticate"]) == (401, "invalid_client", "Basic")


async def test_the_three_documented_401(web, emulator, refused):
    message = "Header Authorization was not found in the request. Access denied."
    for path in (IMODEL, "/extensions/", "/edfs/packages", "/itwins/"):
        response = await web(emulator, path, token=False)
        refused(response, 401, "HeaderNotFound", message=message)
    for value, code in (("Basic eA==", "InvalidAuthorizationScheme"), ("Bearer x", "Unauthorized")):
        response = await web(emulator, IMODEL, token=False, headers={"Authorization": value})
        refused(response, 401, code)


async def test_tokens_end(web, refused, forward):
    async with Emulator(token_lifetime=0.2) as emulator:
        _, body, _ = await ask(web, emulator, data=form(emulator))
        assert body["expires_in"] == 0.2
        bearer = {"Authorization": f"Bearer {body['access_token']}"}
        assert (await web(emulator, IMODEL, token=False, headers=bearer))[0] == 200
        forward(0.2)
        refused(await web(emulator, IMODEL, token=False, headers=bearer), 401, "Unauthorized")
        bearer = {"Authorization": f"Bearer {emulator.issue_token(60)}"}
        assert (await web(emulator, IMODEL, token=False, headers=bearer))[0] == 200
        emulator.expire_tokens()
        refused(await web(emulator, IMODEL, token=False, headers=bearer), 401, "Unauthorized")


@pytest.mark.parametrize(("path", "version"), [(IMODEL, 2), ("/extensions/", 1), ("/itwins/", 1)])
async def test_the_version_in_accept(web, emulator, refused, path, version):
    def vendor(number):
        return {"Accept": f"application/vnd.bentley.itwin-platform.v{number}+json"}

    for fine in ({}, {"Accept": "application/json"}, vendor(version)):
        assert (await web(emulator, path, headers=fine))[0] == 200
    response = await web(emulator, path, headers=vendor(3 - version))
    refused(response, 406, "InvalidHeaderValue", target="Accept")


async def test_the_rate_limit_says_how_long(web, refused):
    async with Emulator(per_minute=3) as emulator:
        for _ in range(3):
            assert (await web(emulator, IMODEL))[0] == 200
        for path, code in (
            (IMODEL, "TooManyRequests"),
            ("/edfs/packages", "TooManyRequests"),
            ("/extensions/", "RateLimitExceeded"),
            ("/itwins/", "RateLimitExceeded"),
        ):
            response = await web(emulator, path)
            refused(response, 429, code)
            assert 55 <= int(response[2]["Retry-After"]) <= 60
            for name in ("Tier", "API", "Operation", "Application"):
                assert response[2][f"ITwinPlatform-RateLimited-{name}"]
        status, _, _ = await ask(web, emulator, data=form(emulator))
        assert status == 200


async def test_a_throttle_ends_by_itself(web, emulator, refused, forward):
    emulator.throttle(0.3)
    response = await web(emulator, IMODEL)
    refused(response, 429, "TooManyRequests")
    assert response[2]["Retry-After"] == "1"
    forward(0.3)
    assert (await web(emulator, IMODEL))[0] == 200


async def test_a_planned_throttle_looks_like_a_real_one(web, emulator, refused):
    emulator.faults.add("list_itwins", Throttle(7))
    response = await web(emulator, "/itwins/")
    refused(response, 429, "RateLimitExceeded")
    assert response[2]["Retry-After"] == "7"
    assert response[2]["ITwinPlatform-RateLimited-API"] == "itwins"


async def test_the_correlation_id_comes_back(web, emulator):
    for path in (IMODEL, "/nowhere"):
        _, _, headers = await web(emulator, path, headers={"X-Correlation-Id": "abc"})
        assert headers["X-Correlation-Id"] == "abc"


async def test_latency_is_for_the_api_alone(web):
    async with Emulator(latency=5) as emulator:
        with Clock() as clock:
            await ask(web, emulator, data=form(emulator))
            calls = [asyncio.create_task(web(emulator, IMODEL)) for _ in range(5)]
            await until(lambda: emulator.max_in_flight == 5)
            clock.forward(2)
            await asyncio.sleep(0.01)
            assert not any(call.done() for call in calls)
            clock.forward(3)
            await asyncio.gather(*calls)


async def test_an_emulator_that_is_started_again_gives_the_same_data_and_other_tokens(web):
    tokens, names = [], []
    for _ in range(2):
        async with Emulator(seed=7) as emulator:
            tokens += [(await ask(web, emulator, data=form(emulator)))[1] for _ in range(2)]
            _, body, _ = await web(emulator, "/itwins/")
            names.append([item["id"] for item in body["iTwins"]])
    assert len({response["access_token"] for response in tokens}) == 4
    assert names[0] == names[1]
