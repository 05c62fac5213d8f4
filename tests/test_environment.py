"""Who asks, by the environment and the stored login: in which order, and what the error says."""

import json
import os
import webbrowser

import pytest

from itwin_async import (
    ClientCredentials,
    FileTokenStore,
    ITwinSession,
    ShareKey,
    StaticToken,
    UserSignIn,
    profiles,
)
from itwin_async.environment import provider_of_environment

SECRET = "canary-of-the-environment"


@pytest.fixture
def environ(monkeypatch, tmp_path):
    """An environment with nothing of ours, and a home without a login."""
    for name in [name for name in os.environ if name.startswith("ITWIN_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("APPDATA", str(tmp_path))
    monkeypatch.setattr(webbrowser, "open", None)
    return monkeypatch


def test_with_nothing_one_error_names_all_ways(environ):
    with pytest.raises(ValueError, match="nobody is signed in") as caught:
        ITwinSession.from_env()
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    for way in (
        "ITWIN_CLIENT_ID", "ITWIN_CLIENT_SECRET", "ITWIN_ACCESS_TOKEN", "itwin-async auth login",
    ):  # fmt: skip
        assert way in message


def test_it_only_looks_whether_there_is_a_store(environ, tmp_path):
    environ.setenv("ITWIN_CLIENT_ID", "native")
    with pytest.raises(ValueError, match="ITWIN_CLIENT_SECRET is not set"):
        ITwinSession.from_env()
    assert list(tmp_path.iterdir()) == []
    path = FileTokenStore().path
    path.parent.mkdir(parents=True)
    path.write_text("not even readable as a store")
    provider, base = provider_of_environment(None)
    assert isinstance(provider, UserSignIn)
    assert (provider.client_id, base) == ("native", None)
    assert path.read_text() == "not even readable as a store"


def test_the_order_is_service_token_login(environ):
    FileTokenStore().save("key", SECRET)
    profiles.save(
        profiles.DEFAULT, profiles.Profile("of-the-profile", "https://qa-api.bentley.com")
    )
    login, base = provider_of_environment(None)
    assert isinstance(login, UserSignIn)
    assert (login.client_id, base) == ("of-the-profile", "https://qa-api.bentley.com")
    environ.setenv("ITWIN_ACCESS_TOKEN", SECRET)
    assert provider_of_environment(None) == (StaticToken(SECRET), None)
    environ.setenv("ITWIN_CLIENT_ID", "service")
    assert isinstance(provider_of_environment(None)[0], StaticToken)
    environ.setenv("ITWIN_CLIENT_SECRET", SECRET)
    assert isinstance(provider_of_environment(None)[0], ClientCredentials)
    share = ITwinSession.from_env(token_provider=ShareKey("key"))
    assert isinstance(share._token_provider, ShareKey)


def test_the_environment_wins_over_the_profile(environ):
    FileTokenStore().save("key", SECRET)
    profiles.save(
        profiles.DEFAULT, profiles.Profile("a", "https://qa-api.bentley.com", "https://b")
    )
    for name, value in {
        "ITWIN_CLIENT_ID": "mine", "ITWIN_AUTHORITY": "https://ims.example",
        "ITWIN_BASE_URL": "https://proxy.example",
    }.items():  # fmt: skip
        environ.setenv(name, value)
    itwin = ITwinSession.from_env()
    assert itwin.base_url == "https://proxy.example"
    assert itwin.begin_sign_in().url.startswith("https://ims.example/connect/authorize?")
    assert "client_id=mine" in itwin.begin_sign_in().url


def test_a_profile_has_a_store_of_its_own(environ):
    profiles.store_of("second").save("key", SECRET)
    profiles.save("second", profiles.Profile("second-client"))
    with pytest.raises(ValueError, match="nobody is signed in"):
        ITwinSession.from_env()
    environ.setenv("ITWIN_PROFILE", "second")
    provider, _ = provider_of_environment(None)
    assert isinstance(provider, UserSignIn)
    assert provider.client_id == "second-client"
    environ.setenv("ITWIN_PROFILE", "../second")
    with pytest.raises(ValueError, match="the name of a profile"):
        ITwinSession.from_env()


def test_profiles_stay_beside_each_other_and_hold_no_secret(environ, tmp_path):
    profiles.save("one", profiles.Profile("a"))
    profiles.save("two", profiles.Profile("b", "https://api.bentley.com"))
    assert profiles.load("one") == profiles.Profile("a")
    assert profiles.load("three") is None
    text = (tmp_path / "itwin-async" / "profiles.json").read_text()
    assert json.loads(text) == {
        "one": {"client_id": "a"},
        "two": {"client_id": "b", "base_url": "https://api.bentley.com"},
    }


def test_profiles_that_are_damaged_are_told_in_one_sentence(environ, tmp_path):
    profiles.save("one", profiles.Profile("a"))
    (tmp_path / "itwin-async" / "profiles.json").write_text("{")
    with pytest.raises(ValueError, match=r"profiles\.json is no file of profiles") as caught:
        profiles.load("one")
    assert len(str(caught.value).splitlines()) == 1


def test_a_link_without_a_store_behind_it_is_no_login(environ, tmp_path):
    environ.setenv("ITWIN_CLIENT_ID", "native")
    path = FileTokenStore().path
    path.parent.mkdir(parents=True)
    path.symlink_to(tmp_path / "tokens-that-went-with-the-sign-out.json")
    with pytest.raises(ValueError, match="nobody is signed in"):
        ITwinSession.from_env()


def test_a_store_without_a_client_id_signs_nobody_in(environ):
    FileTokenStore().save("key", SECRET)
    with pytest.raises(ValueError, match="ITWIN_CLIENT_ID is not set, and nobody is signed in"):
        ITwinSession.from_env()


def test_a_token_that_is_none_is_named_by_its_variable(environ):
    environ.setenv("ITWIN_ACCESS_TOKEN", "Bearer canary")
    with pytest.raises(ValueError, match="ITWIN_ACCESS_TOKEN: a token must be") as caught:
        ITwinSession.from_env()
    assert "canary" not in str(caught.value)
