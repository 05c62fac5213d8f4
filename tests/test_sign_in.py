"""A person signs in with a browser: the page, the port, who waits, and what cannot be."""

import asyncio
import contextlib
import sys
import webbrowser
from pathlib import Path
from types import ModuleType
from urllib.parse import parse_qs, urlsplit

import pytest
from sign_in_host import ME, Browser, SignInHost, can_listen, free_port, redirect, visit
from signing_in import CLIENT, _nothing_opens, host, no_browser, person, session
from support import Running, until

from itwin_async import (
    ITwinSession,
    StaticToken,
    TransportError,
    UnauthorizedError,
    User,
    UserSignIn,
)
from itwin_async.token_store import MemoryTokenStore

__all__ = ["_nothing_opens", "host"]  # fixtures


async def test_a_person_signs_in_and_who_it_is_is_known(host):
    provider = person()
    browser = Browser(host)
    async with session(host, provider) as itwin:
        await itwin.sign_in(open_browser=browser)
        me = await itwin.get_me()
    assert (me.id, me.display_name, me.email) == tuple(ME.values())
    assert isinstance(me, User)
    asked = {name: values[0] for name, values in parse_qs(urlsplit(browser.urls[0]).query).items()}
    assert urlsplit(browser.urls[0]).path == "/connect/authorize"
    assert asked["response_type"] == "code"
    assert asked["client_id"] == CLIENT
    assert asked["scope"] == "itwin-platform offline_access"
    assert asked["code_challenge_method"] == "S256"
    assert len(asked["state"]) >= 32
    assert [form["grant_type"] for form in host.forms] == ["authorization_code"]
    assert 43 <= len(host.forms[0]["code_verifier"]) <= 128
    assert "client_secret" not in host.forms[0]


async def test_the_page_is_plain_and_holds_nothing_of_the_answer(host):
    provider = person()
    browser = Browser(host)
    async with session(host, provider) as itwin:
        await itwin.sign_in(open_browser=browser)
    [(status, page)] = browser.pages
    state = parse_qs(urlsplit(browser.urls[0]).query)["state"][0]
    assert status == 200
    assert "Signed in" in page
    assert "cache-control: no-store" in page.lower()
    assert "canary" not in page
    assert state not in page
    assert "<script" not in page


async def test_a_client_that_waits_for_the_end_of_the_connection_gets_it(host):
    provider = person()
    pages = []

    async def browser(url):
        parts = urlsplit(host.authorize(url))
        reader, writer = await asyncio.open_connection("127.0.0.1", parts.port)
        writer.write(f"GET {parts.path}?{parts.query} HTTP/1.0\r\n\r\n".encode())
        pages.append(await reader.read())
        writer.close()

    async with session(host, provider) as itwin:
        await itwin.sign_in(open_browser=browser)
    assert b"Signed in" in pages[0]


async def test_the_port_is_free_again_as_soon_as_the_browser_came_back(host):
    provider = person()
    async with session(host, provider) as itwin:
        await itwin.sign_in(open_browser=Browser(host))
        assert can_listen(provider.redirect_uris[0])


@pytest.mark.slow
async def test_nobody_comes_back_and_the_port_is_free_again(host):
    provider = person()
    opened = []
    async with session(host, provider) as itwin:
        with pytest.raises(TransportError, match=r"within 0\.5 s.*--no-browser") as caught:
            await itwin.sign_in(open_browser=opened.append, timeout=0.5)
        assert caught.value.reason == "timeout"
        assert can_listen(provider.redirect_uris[0])
        assert len(opened) == 1
        await itwin.sign_in(open_browser=Browser(host))


async def test_an_idle_connection_of_the_browser_does_not_keep_the_port(host):
    provider = person()

    async def browser(url):
        port = urlsplit(provider.redirect_uris[0]).port
        idle = await asyncio.open_connection("127.0.0.1", port)
        try:
            await visit(host.authorize(url))
        finally:
            idle[1].close()

    async with session(host, provider) as itwin:
        await itwin.sign_in(open_browser=browser)
        assert can_listen(provider.redirect_uris[0])


async def test_it_listens_before_the_browser_opens_and_on_loopback_alone(host):
    provider = person()
    addresses = []

    async def browser(url):
        port = urlsplit(provider.redirect_uris[0]).port
        table = await asyncio.to_thread(Path("/proc/net/tcp").read_text)
        for line in table.splitlines()[1:]:
            local, state = line.split()[1], line.split()[3]
            if state == "0A" and int(local.partition(":")[2], 16) == port:
                addresses.append(local.partition(":")[0])
        await visit(host.authorize(url))

    async with session(host, provider) as itwin:
        await itwin.sign_in(open_browser=browser)
    if sys.platform == "linux":
        assert addresses == ["0100007F"]


async def test_what_comes_first_does_not_end_the_wait(host):
    provider = person()
    uri = provider.redirect_uris[0]
    pages = []

    async def browser(url):
        good = host.authorize(url)
        root = uri.removesuffix("/signin-callback")
        pages.extend(
            [
                await visit(f"{root}/favicon.ico"),
                await visit(f"{root}/"),
                await visit(f"{uri}/more?{urlsplit(good).query}"),
                await visit(uri),
                await visit(f"{uri}?code=canary-foreign&state=of-an-old-tab"),
                await visit(f"{uri}?error=access_denied&state=of-an-old-tab"),
                await visit(good, method="POST"),
                await visit(good, method="HEAD"),
                await visit(good),
            ]
        )

    async with session(host, provider) as itwin:
        await itwin.sign_in(open_browser=browser)
        assert (await itwin.get_me()).id == "u-1"
    assert [status for status, _ in pages] == [404, 404, 404, 400, 400, 400, 405, 405, 200]
    assert not any("canary" in page for _, page in pages)


async def test_a_request_without_end_and_a_large_one_are_no_answer(host):
    provider = person()
    port = urlsplit(provider.redirect_uris[0]).port

    async def browser(url):
        for data in (b"GET /" + b"x" * 100_000, b"\x16\x03\x01 no http\r\n\r\n", b"GET\r\n\r\n"):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(data)
            with contextlib.suppress(ConnectionError):
                await reader.read()
            writer.close()
        await visit(host.authorize(url))

    async with session(host, provider) as itwin:
        await itwin.sign_in(open_browser=browser)


async def test_an_answer_is_used_once(host):
    provider = person()
    seen = []

    async def browser(url):
        good = host.authorize(url)
        seen.append(await visit(good))
        with contextlib.suppress(ConnectionError):
            seen.append(await visit(good))

    async with session(host, provider) as itwin:
        await itwin.sign_in(open_browser=browser)
    assert next(status for status, _ in seen) == 200
    assert all(status != 200 for status, _ in seen[1:])
    assert len(host.forms) == 1


async def test_a_refusal_is_an_error_with_its_code_and_its_page_is_escaped(host):
    provider = person()
    browser = Browser(host, error="access_denied", error_description="<script>alert(1)</script> no")
    async with session(host, provider) as itwin:
        with pytest.raises(UnauthorizedError, match="no") as caught:
            await itwin.sign_in(open_browser=browser)
    assert caught.value.code == "access_denied"
    status, page = browser.pages[0]
    assert status == 200
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert can_listen(provider.redirect_uris[0])
    assert host.forms == []


async def test_another_issuer_is_refused_and_the_right_one_is_taken(host):
    provider = person()
    async with session(host, provider) as itwin:
        with pytest.raises(UnauthorizedError, match=r"issuer is 'https://evil\.example'"):
            await itwin.sign_in(open_browser=Browser(host, iss="https://evil.example"))
        assert host.forms == []
        await itwin.sign_in(open_browser=Browser(host, iss=host.url))


async def test_a_port_that_is_taken_leads_to_the_next_address(host):
    async with SignInHost() as other:
        provider = person(redirect_uris=(redirect(other.port), redirect()))
        browser = Browser(host)
        async with session(host, provider) as itwin:
            await itwin.sign_in(open_browser=browser)
        used = parse_qs(urlsplit(browser.urls[0]).query)["redirect_uri"]
        assert used == [provider.redirect_uris[1]]
        provider = person(redirect_uris=(redirect(other.port),))
        async with session(host, provider) as itwin:
            with pytest.raises(OSError, match=f"port {other.port}: Address already in use"):
                await itwin.sign_in(open_browser=no_browser)


async def test_an_address_that_is_not_on_loopback_cannot_be_listened_on(host):
    provider = person(redirect_uris=("https://app.example/callback",))
    async with session(host, provider) as itwin:
        with pytest.raises(ValueError, match="begin_sign_in"):
            await itwin.sign_in(open_browser=no_browser)


async def test_two_at_once_share_a_page_and_both_are_served(host):
    provider = person()
    browser = Browser(host)
    async with session(host, provider) as one, session(host, provider) as other:
        await asyncio.gather(
            one.sign_in(open_browser=browser),
            one.sign_in(open_browser=browser),
            other.sign_in(open_browser=no_browser),
        )
        assert (await one.get_me()).id == (await other.get_me()).id == "u-1"
    assert len(browser.urls) == 1
    assert [form["grant_type"] for form in host.forms] == ["authorization_code"]


async def test_a_refusal_reaches_both_as_errors_of_their_own(host):
    provider = person()
    async with session(host, provider) as itwin:
        one, other = await asyncio.gather(
            itwin.sign_in(open_browser=Browser(host, error="access_denied")),
            itwin.sign_in(open_browser=no_browser),
            return_exceptions=True,
        )
    assert isinstance(one, UnauthorizedError)
    assert isinstance(other, UnauthorizedError)
    assert one is not other


async def test_one_that_is_cancelled_leaves_the_page_to_the_other(host, cancel_kind):
    provider = person()
    urls = []
    async with session(host, provider) as itwin:
        first = Running(cancel_kind, itwin.sign_in(open_browser=urls.append))
        second = asyncio.create_task(itwin.sign_in(open_browser=no_browser))
        await until(lambda: urls)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        await visit(host.authorize(urls[0]))
        await second
        assert (await itwin.get_me()).id == "u-1"


async def test_a_cancelled_one_frees_the_port(host, cancel_kind):
    provider = person()
    urls = []
    async with session(host, provider) as itwin:
        running = Running(cancel_kind, itwin.sign_in(open_browser=urls.append))
        await until(lambda: urls)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert can_listen(provider.redirect_uris[0])


async def test_closing_the_session_ends_a_sign_in(host):
    provider = person()
    urls = []
    itwin = session(host, provider)
    running = asyncio.create_task(itwin.sign_in(open_browser=urls.append))
    await until(lambda: urls)
    await itwin.aclose()
    with pytest.raises(RuntimeError, match="closed"):
        await running
    assert can_listen(provider.redirect_uris[0])


async def test_an_error_of_the_callers_browser_is_the_callers(host):
    provider = person()

    def broken(_url):
        raise LookupError("no such browser")

    async with session(host, provider) as itwin:
        with pytest.raises(LookupError, match="no such browser"):
            await itwin.sign_in(open_browser=broken)
    assert can_listen(provider.redirect_uris[0])


async def test_the_users_browser_is_opened_where_it_is_asked_for(host, monkeypatch):
    provider = person()
    loop = asyncio.get_running_loop()
    visits = []

    def opened(url) -> bool:
        loop.call_soon_threadsafe(lambda: visits.append(loop.create_task(Browser(host)(url))))
        return True

    monkeypatch.setattr(webbrowser, "open", opened)
    async with session(host, provider) as itwin:
        await itwin.sign_in()
        await visits[0]
        assert (await itwin.get_me()).id == "u-1"


@pytest.mark.parametrize("asked", [True, False])
async def test_where_no_browser_opens_the_address_is_shown(host, monkeypatch, capsys, asked):
    monkeypatch.setattr(webbrowser, "open", lambda _url: False)
    provider = person()
    async with session(host, provider) as itwin:
        with pytest.raises(TransportError):
            await itwin.sign_in(open_browser=asked, timeout=0.3)
    output = capsys.readouterr()
    assert output.out == ""
    assert f"Open this address to sign in: {host.url}/connect/authorize?" in output.err


async def test_a_browser_of_the_terminal_is_not_opened(host, monkeypatch):
    monkeypatch.delenv("BROWSER", raising=False)
    monkeypatch.setattr(webbrowser, "get", lambda: webbrowser.GenericBrowser("w3m"))
    provider = person()
    async with session(host, provider) as itwin:
        with pytest.raises(TransportError):  # and not the error of `no_browser`
            await itwin.sign_in(timeout=0.2)


async def test_a_request_without_a_login_says_what_to_call_and_opens_nothing(host):
    async with session(host, person()) as itwin:
        for _ in range(2):
            with pytest.raises(UnauthorizedError, match=r"await itwin\.sign_in\(\).*auth login"):
                await itwin.get_me()
    assert host.forms == []


async def test_only_a_session_for_a_person_signs_one_in(host):
    async with session(host, StaticToken("token-of-the-test")) as itwin:
        with pytest.raises(RuntimeError, match="UserSignIn"):
            await itwin.sign_in()
        with pytest.raises(RuntimeError, match="not one with StaticToken"):
            itwin.begin_sign_in()
        with pytest.raises(RuntimeError, match="UserSignIn"):
            await itwin.sign_out()


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"open_browser": "firefox"}, TypeError, "open_browser"),
        ({"open_browser": None}, TypeError, "open_browser"),
        ({"timeout": 0}, ValueError, "timeout"),
        ({"timeout": float("inf")}, ValueError, "timeout"),
        ({"timeout": "1"}, TypeError, "timeout"),
    ],
)
async def test_what_cannot_be_is_told_at_once(host, options, error, match):
    async with session(host, person()) as itwin:
        with pytest.raises(error, match=match):
            await itwin.sign_in(**options)


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"client_id": ""}, ValueError, "client_id must not be empty"),
        ({"client_id": None}, TypeError, "client_id must be a str"),
        ({"client_secret": " "}, ValueError, "client_secret must not be empty"),
        ({"client_secret": 5}, TypeError, "client_secret must be a str"),
        ({"redirect_uris": ()}, ValueError, "redirect_uris must not be empty"),
        ({"redirect_uris": "http://localhost:1/a"}, TypeError, "sequence"),
        ({"redirect_uris": ("http://app.example/cb",)}, ValueError, "must be https"),
        ({"redirect_uris": ("ftp://localhost/cb",)}, ValueError, "redirect_uri must be"),
        ({"redirect_uris": ("myapp:/cb",)}, ValueError, "redirect_uri must be"),
        ({"redirect_uris": ("http://localhost:1/cb#part",)}, ValueError, "fragment"),
        ({"redirect_uris": ("http://localhost:0/cb",)}, ValueError, "redirect_uri must be"),
        ({"redirect_uris": ("http://0.0.0.0:3000/cb",)}, ValueError, "must be https"),
        ({"redirect_uris": (None,)}, TypeError, "redirect_uri must be"),
        ({"authority": "http://ims.bentley.com"}, ValueError, "authority must be https"),
        ({"authority": ""}, ValueError, "authority must be"),
        ({"authority": "ims.bentley.com"}, ValueError, "authority must be"),
        ({"authority": "https://ims.bentley.com?x=1"}, ValueError, "authority must be"),
        ({"authority": 5}, TypeError, "authority must be a str"),
        ({"scope": " "}, ValueError, "scope must not be empty"),
        ({"store": object()}, TypeError, "store must have"),
        ({"store": MemoryTokenStore}, TypeError, "store must have"),
    ],
)
def test_a_sign_in_that_cannot_be_is_refused_at_once(options, error, match):
    with pytest.raises(error, match=match):
        UserSignIn(**{"client_id": "id", **options})


@pytest.mark.parametrize(
    ("base", "authority"),
    [
        ("https://api.bentley.com", "https://ims.bentley.com"),
        ("https://qa-api.bentley.com", "https://qa-ims.bentley.com"),
        ("https://dev-api.bentley.com", "https://qa-ims.bentley.com"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://localhost:8080", "http://localhost:8080"),
    ],
)
def test_the_sign_in_host_belongs_to_the_base(base, authority):
    itwin = ITwinSession(UserSignIn("id"), base_url=base)
    assert itwin.begin_sign_in().url.startswith(f"{authority}/connect/authorize?")


def test_a_base_without_a_known_sign_in_host_is_refused_at_once():
    with pytest.raises(ValueError, match=r"give UserSignIn an authority \(ITWIN_AUTHORITY\)$"):
        ITwinSession(UserSignIn("id"), base_url="https://proxy.example")
    ITwinSession(UserSignIn("id", authority="https://ims.x/"), base_url="https://proxy.example")


def test_the_port_of_a_test_is_free():
    assert can_listen(redirect(free_port()))


async def test_a_notebook_shows_a_link_where_no_browser_opens(host, monkeypatch, capsys):
    shown = []
    notebook, display = ModuleType("IPython"), ModuleType("IPython.display")
    notebook.get_ipython = lambda: notebook
    display.display = shown.append
    monkeypatch.setitem(sys.modules, "IPython", notebook)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    async with session(host, person()) as itwin:
        with pytest.raises(TransportError):
            await itwin.sign_in(open_browser=False, timeout=0.2)
    [link] = shown
    assert f'href="{host.url}/connect/authorize?' in link._repr_html_()
    assert capsys.readouterr() == ("", "")


@pytest.mark.slow
async def test_a_browser_may_be_opened_by_a_future_which_is_not_cancelled(host):
    provider, opened = person(), asyncio.get_running_loop().create_future()
    visits = []

    def browse(url):
        visits.append(asyncio.ensure_future(Browser(host)(url)))
        return opened

    async with session(host, provider) as itwin:
        await itwin.sign_in(open_browser=browse)
        await visits[0]
    assert not opened.cancelled()
    assert can_listen(provider.redirect_uris[0])


async def test_without_standard_error_nobody_is_shown_the_address(host, monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)  # as in a service of Windows
    async with session(host, person()) as itwin:
        with pytest.raises(TransportError, match="nobody signed in"):
            await itwin.sign_in(open_browser=False, timeout=0.1)


async def test_a_browser_that_the_environment_names_is_opened(host, monkeypatch):
    urls = []
    monkeypatch.setenv("BROWSER", "mine")
    monkeypatch.setattr(webbrowser, "open", lambda url: bool(urls.append(url)) or True)
    async with session(host, person()) as itwin:
        with pytest.raises(TransportError, match="nobody signed in"):
            await itwin.sign_in(timeout=0.2)
    assert len(urls) == 1
