"""A browser on another machine, a web application, signing out, and what is shown."""

import gc
import logging
import pickle
from urllib.parse import urlsplit

import pytest
from secrecy import found_in, shown
from sign_in_host import Browser
from signing_in import CLIENT, _nothing_opens, host, person, session
from support import answer

from itwin_async import (
    ITwinError,
    ServerError,
    UnauthorizedError,
    UserSignIn,
)
from itwin_async.token_store import MemoryTokenStore

__all__ = ["_nothing_opens", "host"]  # fixtures


# Elsewhere


async def test_a_browser_elsewhere_signs_in_by_its_address(host):
    provider = person()
    async with session(host, provider) as itwin:
        flow = itwin.begin_sign_in()
        await flow.finish(f"  {host.authorize(flow.url)}#part \n")
        assert (await itwin.get_me()).id == "u-1"
        with pytest.raises(ValueError, match="over"):
            await flow.finish(host.authorize(flow.url))


@pytest.mark.parametrize(
    "address",
    [
        "", "no address", "http://localhost:3000/signin-callback",
        "http://localhost:3000/signin-callback?code=canary-1&state=foreign",
        "http://localhost:3000/signin-callback?code=canary-1", "?state=", "?" + "a=1&" * 100,
        "?state=%F0%28&code=canary-2", "?state=\ud800",
    ],
)  # fmt: skip
async def test_a_foreign_address_is_refused_and_the_flow_stays_usable(host, address):
    async with session(host, person()) as itwin:
        flow = itwin.begin_sign_in()
        with pytest.raises(ValueError, match="state") as caught:
            await flow.finish(address)
        assert "canary" not in shown(caught.value) if isinstance(caught.value, ITwinError) else True
        await flow.finish(host.authorize(flow.url))
        assert (await itwin.get_me()).id == "u-1"


async def test_an_address_without_a_code_and_of_another_issuer_leave_the_flow_usable(host):
    async with session(host, person()) as itwin:
        flow = itwin.begin_sign_in()
        good = host.authorize(flow.url)
        with pytest.raises(ValueError, match="no code"):
            await flow.finish(good.replace("code=", "kode="))
        with pytest.raises(ValueError, match="issuer"):
            await flow.finish(f"{good}&iss=https%3A%2F%2Fevil.example")
        with pytest.raises(TypeError, match="address must be a str"):
            await flow.finish(None)
        await flow.finish(urlsplit(good).query)


async def test_a_refusal_elsewhere_has_its_code(host):
    async with session(host, person()) as itwin:
        flow = itwin.begin_sign_in()
        with pytest.raises(UnauthorizedError) as caught:
            await flow.finish(host.authorize(flow.url, error="login_required"))
        assert caught.value.code == "login_required"


async def test_a_flow_is_a_link_in_a_notebook(host):
    async with session(host, person()) as itwin:
        flow = itwin.begin_sign_in()
        html = flow._repr_html_()
        assert f'href="{host.url}/connect/authorize?' in html
        assert "&amp;state=" in html
        assert "flow.finish(address)" in html
        assert "state" not in repr(flow)


async def test_a_web_application_signs_in_with_its_secret(host):
    provider = UserSignIn(
        "web", client_secret="canary-web-secret", redirect_uris=("https://app.example/callback",)
    )
    async with session(host, provider) as itwin:
        flow = itwin.begin_sign_in()
        await flow.finish(host.authorize(flow.url))
        host.access.clear()
        await itwin.get_me()
        await itwin.sign_out()
    assert [form["client_secret"] for form in host.forms] == ["canary-web-secret"] * 3
    assert "canary" not in repr(provider)


async def test_a_gateway_that_fails_leaves_the_flow_usable(host):
    host.failures = [answer(status="502 X")] * 4
    async with session(host, person()) as itwin:
        flow = itwin.begin_sign_in()
        good = host.authorize(flow.url)
        with pytest.raises(ServerError):
            await flow.finish(good)
        await flow.finish(good)


# The end


async def test_signing_out_revokes_and_forgets(host):
    store = MemoryTokenStore()
    async with session(host, person(store=store)) as itwin:
        await itwin.sign_in(open_browser=Browser(host))
        [refresh] = host.current
        await itwin.sign_out()
        assert host.current == set()
        assert dict(store._tokens) == {}
        assert host.forms[-1] == {
            "token": refresh, "token_type_hint": "refresh_token", "client_id": CLIENT,
        }  # fmt: skip
        with pytest.raises(UnauthorizedError, match="nobody is signed in"):
            await itwin.get_me()
        await itwin.sign_out()
        assert len(host.forms) == 2


async def test_signing_out_forgets_also_where_the_host_does_not_answer(host):
    store = MemoryTokenStore()
    async with session(host, person(store=store)) as itwin:
        await itwin.sign_in(open_browser=Browser(host))
        host.failures = [answer(status="500 X")] * 9
        with pytest.raises(ServerError):
            await itwin.sign_out()
        assert dict(store._tokens) == {}


async def test_a_second_person_takes_the_place_of_the_first(host):
    async with session(host, person()) as itwin:
        await itwin.sign_in(open_browser=Browser(host))
        first = await itwin.get_token()
        await itwin.sign_in(open_browser=Browser(host))
        assert (await itwin.get_token()) != first


async def test_nothing_that_is_shown_holds_what_signs_in(host, caplog):
    caplog.set_level(logging.DEBUG)
    provider = person(client_secret="canary-secret-of-the-app")
    events = []
    async with session(host, provider, on_event=events.append) as itwin:
        flow = itwin.begin_sign_in()
        verifier = str(flow._request.verifier)
        host.failures = [
            answer(b'{"error":"invalid_grant","error_description":"canary-code-1"}', status="400 X")
        ]
        with pytest.raises(UnauthorizedError) as caught:
            await flow.finish(host.authorize(flow.url))
        texts = [shown(caught.value), repr(flow), repr(provider), repr(flow._request), repr(itwin)]
        await itwin.sign_in(open_browser=Browser(host))
        host.access.clear()
        host.current.clear()
        with pytest.raises(UnauthorizedError) as caught:
            await itwin.get_me()
        texts.append(shown(caught.value))
        texts += [repr(event) for event in events]
        texts += [f"{record.getMessage()} {vars(record)}" for record in caplog.records]
    for text in texts:
        assert found_in(text) == []
        assert verifier not in text


async def test_it_leaves_nothing_behind(host):
    provider = person()
    async with session(host, provider) as itwin:
        await itwin.sign_in(open_browser=Browser(host))
    gc.collect()
    with pytest.raises(TypeError, match="does not pickle"):
        pickle.dumps(provider)
