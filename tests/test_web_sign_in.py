"""The web example that signs users in, over HTTP: cookies, states, tokens, and how it ends."""

import asyncio
import gc
import logging
import weakref
from types import SimpleNamespace

import aiohttp
import fastapi_sign_in
import pytest
from aiohttp import CookieJar
from signing_in_to_web import USERS, site

from itwin_async.emulator import Status

ADA, RAY = USERS[0], "ray <b>brown</b>"


@pytest.fixture
async def app():
    async with site() as running:
        yield running


def browser(app):
    """A browser with cookies of its own."""
    return aiohttp.ClientSession(app.url, cookie_jar=CookieJar(unsafe=True))


async def begin(http):
    """Where the app sends a browser that wants to sign in."""
    async with http.get("/login", allow_redirects=False) as response:
        assert response.status == 303
        return response.headers["Location"]


async def page_of(http, address, **options):
    async with http.get(address, **options) as response:
        return response.status, await response.text()


async def sign_in(app, http, user=ADA):
    return await page_of(http, app.emulator.sign_in_as(user, await begin(http)))


async def name_of(http, **options):
    async with http.get("/api/me", **options) as response:
        return (await response.json())["name"] if response.ok else response.status


async def test_each_user_sees_their_own(app):
    async with browser(app) as one, browser(app) as two:
        assert "Sign in</a>" in (await page_of(one, "/"))[1]
        assert await name_of(one) == 401
        status, text = await sign_in(app, one)
        assert (status, "Signed in as <b>Ada Lovelace</b>" in text) == (200, True)
        _, text = await sign_in(app, two, RAY)
        assert "&lt;b&gt;" in text.lower()
        assert "<b>brown" not in text.lower()
        names = await asyncio.gather(*(name_of(http) for http in (one, two) * 5))
        assert len(set(names[::2])) == len(set(names[1::2])) == 1
        assert names[0] == "Ada Lovelace"
        assert names[1] != names[0]
        async with one.get("/api/itwins") as response:
            assert len(await response.json()) == 3


async def test_an_address_of_another_browser_is_refused_and_signs_nobody_in(app):
    async with browser(app) as victim, browser(app) as attacker, browser(app) as third:
        stolen = app.emulator.sign_in_as(RAY, await begin(attacker))
        mine = app.emulator.sign_in_as(ADA, await begin(victim))
        for http in (victim, third):  # one has begun a sign-in of its own, one has not
            status, text = await page_of(http, stolen)
            assert (status, "Not signed in" in text) == (400, True)
            assert await name_of(http) == 401
        assert (await page_of(victim, mine))[0] == 200  # it can still finish its own
        assert await name_of(victim) == "Ada Lovelace"
        assert (await page_of(victim, mine))[0] == 400  # once
        assert app.emulator.count("token") == 1


async def test_who_refuses_is_not_signed_in(app):
    async with browser(app) as http:
        address = app.emulator.sign_in_as(None, await begin(http))
        address = address.replace("error_description=", "error_description=%3Cscript%3E")
        status, text = await page_of(http, address)
        assert (status, "<script>" in text, "&lt;script&gt;" in text) == (403, False, True)
        assert await name_of(http) == 401
        assert (await page_of(http, address))[0] == 400  # that sign-in is over


async def test_signing_out_revokes_and_forgets(app):
    async with browser(app) as http, browser(app) as other:
        await sign_in(app, http)
        await sign_in(app, other, RAY)
        (cookie,) = http.cookie_jar
        headers = {"Sec-Fetch-Site": "cross-site"}
        async with http.post("/sign-out", headers=headers) as response:
            assert response.status == 403
        assert await name_of(http) == "Ada Lovelace"
        async with http.post("/sign-out") as response:
            assert "Sign in</a>" in await response.text()
        assert not list(http.cookie_jar)
        assert app.emulator.count("revocation") == 1
        async with aiohttp.ClientSession(app.url, cookies={cookie.key: cookie.value}) as thief:
            assert await name_of(thief) == 401
        assert isinstance(await name_of(other), str)


async def test_signing_out_works_while_the_sign_in_host_does_not(app, caplog):
    async with browser(app) as http:
        await sign_in(app, http)
        app.emulator.faults.add("revocation", Status(403), times=None)
        async with http.post("/sign-out") as response:
            assert response.ok
        assert await name_of(http) == 401
    assert "not revoked" in caplog.text


async def test_signing_in_again_ends_what_was_before(app):
    async with browser(app) as http:
        await sign_in(app, http)
        (before,) = http.cookie_jar
        await sign_in(app, http, RAY)
        (after,) = http.cookie_jar
        assert before.value != after.value
        assert await name_of(http) != "Ada Lovelace"
        assert app.emulator.count("revocation") == 1


async def test_a_sign_in_that_has_ended_is_begun_again(app):
    async with browser(app) as http:
        await sign_in(app, http)
        app.emulator.expire_tokens()
        assert await name_of(http) == "Ada Lovelace"  # renewed
        app.emulator.expire_tokens()
        app.emulator.expire_refresh_tokens()
        assert "Sign in again" in (await page_of(http, "/"))[1]
        assert "Sign in</a>" in (await page_of(http, "/"))[1]


@pytest.mark.parametrize("secure", [True, False])
async def test_cookies_are_for_this_host_and_not_for_scripts(secure):
    async with site("https://app.example/signin-callback" if secure else None) as app:
        prefix = "__Host-" if secure else ""
        jar = {}
        set_cookies = []
        async with aiohttp.ClientSession(app.url, cookie_jar=aiohttp.DummyCookieJar()) as http:
            address = "/login"
            for _ in range(2):
                cookie = "; ".join(f"{name}={value}" for name, value in jar.items())
                async with http.get(
                    address, headers={"Cookie": cookie}, allow_redirects=False
                ) as response:
                    set_cookies += response.headers.getall("Set-Cookie")
                    jar |= {name: morsel.value for name, morsel in response.cookies.items()}
                    there = response.headers["Location"]
                if address == "/login":
                    there = app.emulator.sign_in_as(ADA, there)
                    address = "/signin-callback?" + there.partition("?")[2]
        assert list(jar) == [f"{prefix}signing-in", f"{prefix}user"]
        assert jar[f"{prefix}signing-in"] == ""  # taken back
        assert len(jar[f"{prefix}user"]) >= 43
        assert len(set_cookies) == 3
        for text in set_cookies:
            parts = {part.strip().lower() for part in text.split(";")[1:]}
            assert {"httponly", "samesite=lax", "path=/"} <= parts
            assert ("secure" in parts) is secure
            assert not any(part.startswith("domain") for part in parts)


async def test_a_callers_own_token_is_passed_on_and_kept_nowhere(app):
    async with browser(app) as signed_in, browser(app) as http:
        await sign_in(app, signed_in)
        token = app.emulator.issue_token(user=RAY)
        headers = {"Authorization": f"Bearer {token}"}
        assert await name_of(http, headers=headers) not in {"Ada Lovelace", 401}
        assert await name_of(signed_in, headers=headers) != "Ada Lovelace"  # not the cookie's
        assert await name_of(signed_in) == "Ada Lovelace"
        assert await name_of(http) == 401
        assert not list(http.cookie_jar)
        for wrong in ("not-a-token", "", "with space"):
            headers = {"Authorization": f"Bearer {wrong}"}
            assert await name_of(signed_in, headers=headers) == 401


async def test_no_log_holds_a_code(app, caplog):
    caplog.set_level(logging.DEBUG)
    async with browser(app) as http:
        address = app.emulator.sign_in_as(ADA, await begin(http))
        assert (await page_of(http, address))[0] == 200
    code = address.partition("code=")[2].partition("&")[0]
    logged = [record.getMessage() for record in caplog.records if record.name == "uvicorn.access"]
    assert any("/signin-callback " in line for line in logged)
    assert code
    assert code not in caplog.text


class Value:
    """Something to keep, whose end can be seen."""


def test_what_is_kept_is_bounded_and_ends(monkeypatch):
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(fastapi_sign_in, "time", SimpleNamespace(monotonic=lambda: clock.now))
    kept = fastapi_sign_in.Kept(2, 10.0)
    values = [Value() for _ in range(3)]
    ends = [weakref.ref(value) for value in values]
    first, second = kept.keep(values[0]), kept.keep(values[1])
    assert kept.find(first) is values[0]
    third = kept.keep(values[2])  # the second was used least lately
    values.clear()
    gc.collect()
    assert [end() is not None for end in ends] == [True, False, True]
    assert kept.find(second) is None
    assert kept.find(None) is None
    clock.now = 9.0
    assert kept.find(third) is not None
    clock.now = 10.0
    kept.forget_old()
    gc.collect()
    assert [end() is not None for end in ends] == [False, False, True]
    assert kept.take(third) is not None
    assert len(kept) == 0
    assert len({first, second, third}) == 3
    assert min(map(len, (first, second, third))) >= 43


async def test_who_does_nothing_for_long_is_forgotten(monkeypatch):
    monkeypatch.setattr(fastapi_sign_in, "IDLE", 0.05)
    monkeypatch.setattr(fastapi_sign_in, "SWEEP", 0.01)
    kept = []
    original = fastapi_sign_in.Backend.__init__

    def init(backend, http):
        original(backend, http)
        kept.append(backend.users)

    monkeypatch.setattr(fastapi_sign_in.Backend, "__init__", init)
    async with site() as app, browser(app) as http:
        address = app.emulator.sign_in_as(ADA, await begin(http))
        async with http.get(address, allow_redirects=False) as response:
            assert response.status == 303
        async with asyncio.timeout(30):
            while len(kept[0]):
                await asyncio.sleep(0.01)
        assert await name_of(http) == 401
