"""The web example whose users sign in: each with their own token, and nobody with another's."""

import aiohttp
import pytest
import sign_in_app
from serving import serving
from yarl import URL

from itwin_async.emulator import Emulator


@pytest.fixture
async def platform(monkeypatch):
    """An emulator, and a client for each user of the example."""
    async with serving(sign_in_app.app) as url:
        uri = f"{url}/signin-callback"
        async with Emulator(redirect_uris=[uri], itwins=3, imodels=2, changesets=1) as emulator:
            client_id, client_secret = emulator.web_client
            for name, value in {
                **emulator.environment, "ITWIN_REDIRECT_URI": uri,
                "ITWIN_WEB_CLIENT_ID": client_id, "ITWIN_WEB_CLIENT_SECRET": client_secret,
            }.items():  # fmt: skip
                monkeypatch.setenv(name, value)
            yield emulator, url


def browser(url):
    return aiohttp.ClientSession(url, cookie_jar=aiohttp.CookieJar(unsafe=True))


async def begin(http) -> str:
    async with http.get("/login", allow_redirects=False) as response:
        assert response.status == 307
        cookie = response.headers["Set-Cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=lax" in cookie
        return response.headers["Location"]


async def finish(http, address) -> tuple[int, dict]:
    async with http.get(URL(address, encoded=True)) as response:
        return response.status, await response.json()


async def test_each_user_has_a_token_of_their_own_until_they_sign_out(platform):
    emulator, url = platform
    async with browser(url) as ada, browser(url) as bob:
        urls = await begin(ada), await begin(bob)
        _, first = await finish(ada, emulator.sign_in_as("owner", urls[0]))
        _, second = await finish(bob, emulator.sign_in_as("reader", urls[1]))
        assert (first["displayName"], second["displayName"]) == ("Owner Example", "Reader Example")
        async with ada.get("/itwins") as response:
            assert len(await response.json()) == 3
        async with ada.post("/logout") as response:
            assert response.status == 204
        async with ada.get("/me") as response:
            assert response.status == 401
        async with bob.get("/me") as response:
            assert (await response.json())["displayName"] == "Reader Example"


async def test_an_address_serves_the_browser_that_began_alone(platform):
    emulator, url = platform
    async with browser(url) as ada, browser(url) as eve:
        address = emulator.sign_in_as("owner", await begin(ada))
        assert (await finish(eve, address))[0] == 400
        await begin(eve)
        assert (await finish(eve, address))[0] == 400
        assert (await finish(ada, address))[0] == 200


async def test_a_refusal_is_an_error_without_a_session(platform):
    emulator, url = platform
    async with browser(url) as ada:
        status, said = await finish(ada, emulator.sign_in_as(None, await begin(ada)))
        assert (status, "access_denied" in said["error"]) == (401, True)
        async with ada.get("/me") as response:
            assert response.status == 401


async def test_a_token_is_passed_on(platform):
    emulator, url = platform
    async with browser(url) as front_end:
        headers = {"Authorization": f"Bearer {emulator.issue_token(user='reader')}"}
        async with front_end.get("/passed-on/me", headers=headers) as response:
            assert (await response.json())["displayName"] == "Reader Example"
        for wrong in ("Bearer x", "Bearer x y", "Bearer "):
            headers = {"Authorization": wrong}
            async with front_end.get("/passed-on/me", headers=headers) as refused:
                assert refused.status == 401
