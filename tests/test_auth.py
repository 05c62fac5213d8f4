"""Credentials are values without secrets in sight; token answers are read safely."""

import asyncio
import copy
import math
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import RawServer, answer

from itwin_async import (
    ClientCredentials,
    DecodeError,
    ITwinSession,
    ShareKey,
    StaticToken,
    Token,
    TokenProvider,
)
from itwin_async.auth import parse_token

SECRET = "canary-secret-0123456789"
VARIABLES = ("ITWIN_CLIENT_ID", "ITWIN_CLIENT_SECRET", "ITWIN_BASE_URL", "ITWIN_TOKEN_URL")


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


@pytest.mark.parametrize(
    "value",
    [Token(SECRET, 5.0), StaticToken(SECRET), ShareKey(SECRET), ClientCredentials("id", SECRET)],
)
def test_no_secret_is_shown(value):
    assert SECRET not in f"{value!r} {value}"
    assert len(repr(value).splitlines()) == 1


def test_what_is_no_secret_is_shown():
    assert repr(ClientCredentials("id", SECRET, token_url="https://ims.example/t")) == (
        "ClientCredentials(client_id='id', token_url='https://ims.example/t', "
        "scope='itwin-platform')"
    )
    assert repr(Token(SECRET, 5.0)) == "Token(expires_in=5.0)"


@pytest.mark.parametrize(
    "value",
    [
        Token("a", 5.0),
        Token("a", scheme="Basic"),
        StaticToken("a"),
        ShareKey("a"),
        ClientCredentials("id", "s", scope="x"),
    ],
)
def test_they_are_values(value):
    again = copy.deepcopy(value)
    assert again == value
    assert hash(again) == hash(value)
    assert pickle.loads(pickle.dumps(value)) == value
    name = type(value).__dataclass_fields__.copy().popitem()[0]
    with pytest.raises(AttributeError):
        setattr(value, name, "other")


def test_all_providers_are_providers():
    assert isinstance(StaticToken("a"), TokenProvider)
    assert isinstance(ClientCredentials("id", "s"), TokenProvider)


BAD = ["", " ", "a b", "a\r\nX: y", "a\n", "\ta", "a\x00", "é", "a\u2028", "\ud800", "a\x7f"]


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("kind", [Token, StaticToken, ShareKey])
def test_a_token_that_no_header_can_hold_is_a_value_error_without_it(kind, bad):
    with pytest.raises(ValueError, match="visible ASCII") as caught:
        kind(f"{bad}{SECRET}" if bad.strip() or bad == "\ta" else bad)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("bad", [None, 5, b"token", ["t"]])
@pytest.mark.parametrize("kind", [Token, StaticToken, ShareKey])
def test_a_token_that_is_no_text_is_a_type_error(kind, bad):
    with pytest.raises(TypeError, match="must be a str"):
        kind(bad)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("", "s"), ValueError), (("id", ""), ValueError), ((" ", "s"), ValueError),
        ((None, "s"), TypeError), (("id", None), TypeError), (("id", b"s"), TypeError),
    ],
)  # fmt: skip
def test_bad_credentials_are_an_error_at_once(arguments, error):
    with pytest.raises(error, match="client_"):
        ClientCredentials(*arguments)


@pytest.mark.parametrize(
    "url", ["ims.bentley.com/t", "", f"https://u:{SECRET}@ims/t",
            "https://ims.example/t\r\nX: y", "ftp://ims.example/t"],
)  # fmt: skip
def test_a_bad_token_url_is_an_error_at_once(url):
    with pytest.raises(ValueError, match=r"token_url .* as https://ims\..*/token$") as caught:
        ClientCredentials("id", SECRET, token_url=url)
    assert SECRET not in str(caught.value)


def test_a_secret_is_never_sent_in_the_clear():
    credentials = ClientCredentials("id", SECRET, token_url="http://ims.bentley.com/connect/token")
    with pytest.raises(ValueError, match=r"token_url must be https.*allow_plain_http=True"):
        ITwinSession(credentials)
    session = ITwinSession(credentials, allow_plain_http=True)
    assert session.base_url == "https://api.bentley.com"


def test_a_secret_may_be_sent_in_the_clear_to_this_machine():
    for url in ("http://127.0.0.1:8080/connect/token", "http://localhost/t", "http://[::1]:9/t"):
        assert ClientCredentials("id", SECRET, token_url=url).endpoint("https://x.example") == url


@pytest.mark.parametrize(
    ("base", "endpoint"),
    [
        ("https://api.bentley.com", "https://ims.bentley.com/connect/token"),
        ("https://qa-api.bentley.com", "https://qa-ims.bentley.com/connect/token"),
        ("https://dev-api.bentley.com", "https://qa-ims.bentley.com/connect/token"),
    ],
)
def test_a_base_has_its_sign_in_host(base, endpoint):
    assert ClientCredentials("id", SECRET).endpoint(base) == endpoint
    spelt = base.upper().replace("HTTPS", "https") + ":443/"
    session = ITwinSession(ClientCredentials("id", SECRET), base_url=spelt)
    assert session.base_url == base


@pytest.mark.parametrize("base", ["https://proxy.example", "http://127.0.0.1:8080"])
def test_an_unknown_base_without_a_token_url_is_a_value_error_at_once(base):
    with pytest.raises(ValueError, match=r"a token_url \(ITWIN_TOKEN_URL\)$") as caught:
        ITwinSession(ClientCredentials("id", SECRET), base_url=base)
    assert base in str(caught.value)
    assert SECRET not in str(caught.value)


def test_a_token_url_of_ones_own_wins():
    mine = ClientCredentials("id", SECRET, token_url="https://ims.example/t")
    assert mine.endpoint("https://api.bentley.com") == "https://ims.example/t"


# Answers of the token endpoint


@pytest.mark.parametrize(
    ("life", "seconds"),
    [
        (3600, 3600), (1, 1), (59.5, 59.5), ("1800", 1800), (" 60 ", 60), ("1e3", 1000),
        (86_400, 86_400), (86_401, 86_400), (10**12, 86_400), (10**400, 3600), (1e308, 86_400),
        ("inf", 86_400), (0, 3600), (-1, 3600), (-1e9, 3600), ("0", 3600), ("", 3600),
        ("soon", 3600), ("nan", 3600), (float("nan"), 3600), (float("inf"), 86_400),
        (None, 3600), ([], 3600), ({}, 3600), ([3600], 3600),
    ],
)  # fmt: skip
def test_a_life_is_read_safely(life, seconds):
    token = parse_token({"access_token": SECRET, "expires_in": life, "token_type": "Bearer"})
    assert (token.value, token.expires_in) == (SECRET, seconds)


def test_a_life_that_is_missing_is_an_hour():
    assert parse_token({"access_token": SECRET}) == Token(SECRET, 3600.0)


@pytest.mark.parametrize(
    "answer",
    [
        None, [], {}, "x", 5, True, [{"access_token": "x"}], {"access_token": None},
        {"access_token": ""}, {"access_token": 5}, {"access_token": ["x"]},
        {"access_token": f"{SECRET} b"}, {"access_token": f"{SECRET}\r\n"},
        {"access_token": f"é{SECRET}"}, {"Access_Token": SECRET}, {"token": SECRET},
        {"error": "invalid_client"},
    ],
)  # fmt: skip
def test_an_answer_without_a_usable_token_is_a_decode_error_that_shows_none(answer):
    with pytest.raises(DecodeError) as caught:
        parse_token(answer)
    assert SECRET not in repr(caught.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["access_token", "expires_in", "x"]), inner)
    ),
    max_leaves=8,
)


@given(JSON)
def test_any_answer_gives_a_token_or_a_decode_error(answer):
    try:
        token = parse_token(answer)
    except DecodeError:
        return
    assert 0 < token.expires_in <= 86_400


class SignInHost:
    """A provider's view of a session."""

    base_url = "https://qa-api.bentley.com"

    def __init__(self, answer: object) -> None:
        self.answer = answer
        self.posted: list[tuple[str, dict[str, str]]] = []

    async def post(self, url: str, form: dict[str, str]) -> object:
        self.posted.append((url, dict(form)))
        return self.answer


def test_credentials_post_the_documented_form():
    host = SignInHost({"access_token": "t", "expires_in": 60})
    token = asyncio.run(ClientCredentials("id", SECRET, scope="a b").get_token(host))
    assert token == Token("t", 60.0)
    assert host.posted == [
        (
            "https://qa-ims.bentley.com/connect/token",
            {
                "grant_type": "client_credentials",
                "client_id": "id",
                "client_secret": SECRET,
                "scope": "a b",
            },
        )
    ]


def test_a_static_token_asks_nobody():
    host = SignInHost(None)
    assert asyncio.run(StaticToken("t").get_token(host)) == Token("t", None)
    assert host.posted == []


# The environment


def test_credentials_come_from_the_environment(no_environment):
    no_environment.setenv("ITWIN_CLIENT_ID", " id ")
    no_environment.setenv("ITWIN_CLIENT_SECRET", f"{SECRET}\n")
    assert ClientCredentials.from_env() == ClientCredentials("id", SECRET)
    no_environment.setenv("ITWIN_TOKEN_URL", "https://ims.example/t")
    assert ClientCredentials.from_env().token_url == "https://ims.example/t"


@pytest.mark.parametrize("missing", VARIABLES[:2])
@pytest.mark.parametrize("value", [None, "", "  "])
@pytest.mark.parametrize("kind", [ITwinSession, ClientCredentials])
def test_a_missing_variable_is_named(no_environment, missing, value, kind):
    for name in VARIABLES[:2]:
        no_environment.setenv(name, SECRET)
    if value is None:
        no_environment.delenv(missing)
    else:
        no_environment.setenv(missing, value)
    with pytest.raises(ValueError, match=missing) as caught:
        kind.from_env()
    assert SECRET not in str(caught.value)


def test_a_session_comes_from_the_environment(no_environment):
    no_environment.setenv("ITWIN_CLIENT_ID", "id")
    no_environment.setenv("ITWIN_CLIENT_SECRET", SECRET)
    assert ITwinSession.from_env().base_url == "https://api.bentley.com"
    no_environment.setenv("ITWIN_BASE_URL", "https://qa-api.bentley.com/")
    session = ITwinSession.from_env()
    assert session.base_url == "https://qa-api.bentley.com"
    assert SECRET not in repr(session)


def test_keywords_win_over_the_environment(no_environment):
    no_environment.setenv("ITWIN_BASE_URL", "https://qa-api.bentley.com")
    session = ITwinSession.from_env(
        token_provider=StaticToken("t"), base_url="https://dev-api.bentley.com", timeout=5.0
    )
    assert session.base_url == "https://dev-api.bentley.com"


def test_a_bad_base_of_the_environment_is_an_error(no_environment):
    no_environment.setenv("ITWIN_BASE_URL", "http://api.bentley.com")
    with pytest.raises(ValueError, match="base_url must be https"):
        ITwinSession.from_env(token_provider=StaticToken("t"))


@pytest.mark.parametrize("provider", ["a-token-canary", None, 5, b"t"])
def test_what_gives_no_token_is_a_type_error_that_does_not_show_it(provider):
    with pytest.raises(TypeError, match="token_provider must be") as caught:
        ITwinSession(provider)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    ("scheme", "error"),
    [("", ValueError), ("a b", ValueError), ("Basic\r\nX: y", ValueError), (None, TypeError)],
)
def test_a_scheme_that_no_header_can_hold_is_told_at_once(scheme, error):
    with pytest.raises(error, match="scheme must be"):
        Token("a", scheme=scheme)


async def test_a_share_key_goes_out_as_basic():
    async with RawServer(answer(b'{"user":{"id":"u"}}')) as server:
        async with ITwinSession(ShareKey("key+of/a=share"), base_url=server.url) as itwin:
            await itwin.get_me()
            assert await itwin.get_token() == Token("key+of/a=share", scheme="Basic")
        assert server.requests[0].headers["authorization"] == "Basic key+of/a=share"


async def test_a_token_says_its_scheme():
    async def provider() -> Token:
        return Token("value", scheme="PoP")

    async with RawServer(answer(b'{"user":{"id":"u"}}')) as server:
        async with ITwinSession(provider, base_url=server.url) as itwin:
            await itwin.get_me()
        assert server.requests[0].headers["authorization"] == "PoP value"


@pytest.mark.parametrize("life", [True, "3600", b"1", [1], math.nan, -math.inf])
def test_a_lifetime_that_is_no_number_is_refused(life):
    kind = ValueError if isinstance(life, float) else TypeError
    with pytest.raises(kind, match="expires_in must be a number of seconds, not "):
        Token(SECRET, life)
