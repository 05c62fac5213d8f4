"""What the environment says: who asks, by variables or a stored login; where plain http goes."""

import os

from itwin_async import profiles
from itwin_async.auth import ClientCredentials, StaticToken, TokenSource, environment
from itwin_async.sign_in import UserSignIn


def provider_of_environment(base_url: str | None) -> tuple[TokenSource, str | None]:
    """Who asks by the environment, and the base, which the profile of a login may know."""
    has_id = environment("ITWIN_CLIENT_ID") is not None
    if has_id and environment("ITWIN_CLIENT_SECRET") is not None:
        return ClientCredentials.from_env(), base_url
    if environment("ITWIN_ACCESS_TOKEN") is not None:
        return StaticToken(environment("ITWIN_ACCESS_TOKEN") or ""), base_url
    name = environment("ITWIN_PROFILE") or profiles.DEFAULT
    store = profiles.store_of(name)
    if os.path.lexists(store.path):
        profile = profiles.load(name) or profiles.Profile()
        client_id = (
            environment("ITWIN_CLIENT_ID")
            or environment("ITWIN_USER_CLIENT_ID")
            or profile.client_id
        )
        authority = environment("ITWIN_AUTHORITY") or profile.authority
        base_url = base_url or profile.base_url
        if client_id is not None:
            return UserSignIn(client_id, authority=authority, store=store), base_url
    missing = "ITWIN_CLIENT_SECRET is not set" if has_id else "ITWIN_CLIENT_ID is not set"
    raise ValueError(
        f"{missing}, and nobody is signed in: set ITWIN_CLIENT_ID and ITWIN_CLIENT_SECRET, or "
        "ITWIN_ACCESS_TOKEN, or run: itwin-async auth login"
    )


def plain_http_allowed() -> bool:
    """Whether the environment allows plain http; `ValueError` where the variable is unclear."""
    value = environment("ITWIN_ALLOW_PLAIN_HTTP")
    if value is not None and value not in {"1", "true"}:
        raise ValueError("ITWIN_ALLOW_PLAIN_HTTP must be 1 or true, or not be set")
    return value is not None
