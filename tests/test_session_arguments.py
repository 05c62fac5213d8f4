"""The arguments of a session: from the environment, checked, and kept to https."""

import pytest
from support import PACKAGE, RawServer, answer

from itwin_async import (
    ClientCredentials,
    ITwinSession,
    Limiter,
    StaticToken,
    Token,
)
from itwin_async.emulator import Emulator

OK = answer(PACKAGE)


PROVIDER = StaticToken("t")


# The environment


NAMES = ("ITWIN_CLIENT_ID", "ITWIN_CLIENT_SECRET", "ITWIN_BASE_URL", "ITWIN_TOKEN_URL")


@pytest.fixture
def environ(monkeypatch: pytest.MonkeyPatch, emulator: Emulator) -> pytest.MonkeyPatch:
    credentials = emulator.credentials
    values = (
        credentials.client_id,
        credentials.client_secret,
        emulator.url,
        credentials.token_url,
    )
    for name, value in zip(NAMES, values, strict=True):
        monkeypatch.setenv(name, value)
    return monkeypatch


async def test_from_env_reads_everything_it_needs(environ, emulator):
    async with ITwinSession.from_env() as itwin:
        assert (await itwin.itwins.get_primary_account()).display_name == "Acme Corp."
    assert emulator.count("token") == 1


@pytest.mark.parametrize("name", NAMES[:2])
@pytest.mark.parametrize("empty", [True, False])
async def test_from_env_names_a_missing_variable(environ, name, empty):
    environ.setenv(name, " ") if empty else environ.delenv(name)
    with pytest.raises(ValueError, match=f"{name} is not set"):
        ITwinSession.from_env()


async def test_from_env_is_production_without_a_base_url(environ):
    environ.delenv("ITWIN_BASE_URL")
    environ.delenv("ITWIN_TOKEN_URL")
    assert ITwinSession.from_env().base_url == "https://api.bentley.com"


async def test_from_env_lets_keywords_win(environ):
    limiter = Limiter(2)
    async with RawServer(OK) as server:
        async with ITwinSession.from_env(
            token_provider=StaticToken("mine"), base_url=server.url, limiter=limiter
        ) as itwin:
            await itwin.packages.get_package("P")
        assert itwin.limiter is limiter
        assert server.requests[0].headers["authorization"] == "Bearer mine"


async def test_from_env_needs_no_credentials_beside_a_provider(environ):
    environ.delenv("ITWIN_CLIENT_ID")
    ITwinSession.from_env(token_provider=PROVIDER)


# Arguments

BAD = [
    ({"token_provider": "a-bare-token"}, TypeError, "token_provider"),
    ({"token_provider": None}, TypeError, "token_provider"),
    ({"base_url": "http://api.bentley.com"}, ValueError, "base_url"),
    ({"base_url": "https://api.bentley.com/v1"}, ValueError, "base_url"),
    ({"base_url": "https://api.bentley.com?x=1"}, ValueError, "base_url"),
    ({"base_url": "https://api.bentley.com/?"}, ValueError, "base_url"),
    ({"base_url": "https://api.bentley.com#x"}, ValueError, "base_url"),
    ({"base_url": "api.bentley.com"}, ValueError, "base_url"),
    ({"base_url": "https://u:hunter2@api.bentley.com"}, ValueError, "base_url"),
    ({"base_url": "ftp://127.0.0.1"}, ValueError, "base_url"),
    ({"base_url": ""}, ValueError, "base_url"),
    ({"base_url": b"https://api.bentley.com"}, TypeError, "base_url"),
    ({"base_url": "https://api.bentley.com:0"}, ValueError, "base_url"),
    ({"base_url": "https://api.bentley.com\r\nX: y"}, ValueError, "base_url"),
    ({"limiter": 16}, TypeError, "limiter"),
    ({"retry": 3}, TypeError, "retry"),
    ({"timeout": "60"}, TypeError, "timeout"),
    ({"timeout": True}, TypeError, "timeout"),
    ({"timeout": None}, TypeError, "timeout"),
    ({"timeout": 0}, ValueError, "timeout"),
    ({"timeout": -1.0}, ValueError, "timeout"),
    ({"timeout": float("nan")}, ValueError, "timeout"),
    ({"timeout": float("inf")}, ValueError, "timeout"),
    ({"buffer_bytes": 1.5}, TypeError, "buffer_bytes"),
    ({"buffer_bytes": -1}, ValueError, "buffer_bytes"),
    ({"buffer_bytes": None}, TypeError, "buffer_bytes"),
    ({"max_body": "1"}, TypeError, "max_body"),
    ({"max_body": 0}, ValueError, "max_body"),
    ({"max_body": None}, TypeError, "max_body"),
    ({"http": 1j}, TypeError, "http"),
    ({"on_event": "print"}, TypeError, "on_event"),
]


@pytest.mark.parametrize(("keywords", "error", "name"), BAD, ids=lambda value: str(value)[:40])
def test_a_keyword_that_cannot_be_used_is_refused_in_one_sentence(keywords, error, name):
    with pytest.raises(error, match=name) as caught:
        ITwinSession(**{"token_provider": PROVIDER, **keywords})
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 200
    assert "hunter2" not in message


@pytest.mark.parametrize(
    "base_url",
    [
        "https://api.bentley.com/",
        "HTTPS://API.bentley.com:443",
        "http://127.0.0.1:8080",
        "http://[::1]:8080",
        "http://localhost",
        "https://proxy.example:8443",
    ],
)
def test_a_base_url_that_can_be_used_is_taken(base_url):
    ITwinSession(PROVIDER, base_url=base_url)


def test_credentials_for_an_unknown_base_need_a_token_url():
    with pytest.raises(ValueError, match="token_url"):
        ITwinSession(ClientCredentials("i", "s"), base_url="https://proxy.example")


async def test_everything_but_the_provider_is_a_keyword():
    with pytest.raises(TypeError):
        ITwinSession(PROVIDER, "https://api.bentley.com")


async def test_a_token_that_cannot_stand_in_a_header_is_refused_before_it_is_sent():
    for bad in ("a\r\nX-Evil: 1", "tök", "a b", "", "a\x00"):

        async def provider(value=bad) -> str:
            return value

        async with RawServer(OK) as server:
            async with ITwinSession(provider, base_url=server.url) as itwin:
                with pytest.raises(ValueError, match="token"):
                    await itwin.packages.get_package("P")
            assert server.opened == 0


@pytest.mark.parametrize("token", [None, 5, b"t", {"access_token": "t"}])
async def test_a_provider_that_gives_no_token_is_a_type_error(token):
    async def provider():
        return token

    async with ITwinSession(provider) as itwin:
        with pytest.raises(TypeError, match="token"):
            await itwin.packages.get_package("P")


async def test_a_provider_that_is_not_async_is_a_type_error():
    async with ITwinSession(lambda: "t") as itwin:
        with pytest.raises(TypeError, match="async"):
            await itwin.packages.get_package("P")


async def test_the_error_of_a_provider_comes_through_as_it_is():
    async def provider() -> str:
        raise LookupError("the vault is sealed")

    async with ITwinSession(provider) as itwin:
        with pytest.raises(LookupError, match="sealed"):
            await itwin.packages.get_package("P")


# Plain http, where it is asked for


@pytest.mark.parametrize("way", ["keyword", "environment"])
async def test_plain_http_to_any_host_is_allowed_by_its_switch_alone(way, monkeypatch, tmp_path):
    """0.0.0.0 leads here, and is no loopback address."""
    async with Emulator(host="0.0.0.0") as emulator:
        url = emulator.url.replace("127.0.0.1", "0.0.0.0")
        secret = emulator.credentials.client_secret
        credentials = ClientCredentials(
            emulator.credentials.client_id, secret, token_url=f"{url}/connect/token"
        )
        with pytest.raises(ValueError, match=r"base_url must be https.*allow_plain_http=True"):
            ITwinSession(credentials, base_url=url)
        monkeypatch.setenv("ITWIN_BASE_URL", url)
        if way == "environment":
            monkeypatch.setenv("ITWIN_ALLOW_PLAIN_HTTP", "1")
            itwin = ITwinSession.from_env(token_provider=credentials)
        else:
            itwin = ITwinSession(credentials, base_url=url, allow_plain_http=True)
        async with itwin:
            found = await anext(aiter(itwin.extensions.list_extensions()))
            versions = itwin.extensions.list_versions(found.id)
            number = (await anext(aiter(versions))).number
            got = await itwin.extensions.download_version(found.id, number, tmp_path)
            assert got.files


@pytest.mark.parametrize("switch", ["0", "false", "yes", "True", "01"])
def test_a_switch_that_is_not_clear_is_a_value_error(switch, monkeypatch):
    monkeypatch.setenv("ITWIN_ALLOW_PLAIN_HTTP", switch)
    with pytest.raises(ValueError, match="ITWIN_ALLOW_PLAIN_HTTP must be 1 or true"):
        ITwinSession.from_env(token_provider=StaticToken("t"))


def test_a_keyword_wins_over_the_switch_of_the_environment(monkeypatch):
    monkeypatch.setenv("ITWIN_ALLOW_PLAIN_HTTP", "true")
    monkeypatch.setenv("ITWIN_BASE_URL", "http://emulator:8080")
    ITwinSession.from_env(token_provider=StaticToken("t"))
    with pytest.raises(ValueError, match="plain http is for loopback only, not emulator"):
        ITwinSession.from_env(token_provider=StaticToken("t"), allow_plain_http=False)


async def test_a_provider_of_ones_own_posts_no_form_in_the_clear(emulator):
    class Provider:
        async def get_token(self, sign_in) -> Token:
            await sign_in.post("http://emulator.invalid/connect/token", {"client_secret": "s"})
            raise AssertionError

    async with ITwinSession(Provider(), base_url=emulator.url) as itwin:
        with pytest.raises(ValueError, match="the token endpoint must be https"):
            await itwin.itwins.get_primary_account()
