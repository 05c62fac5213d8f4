"""What the environment says: who asks, by variables or a stored login; where plain http goes."""

import os
from typing import TypedDict

from itwin_async import profiles
from itwin_async._http.transport import ClientSession
from itwin_async.auth import ClientCredentials, StaticToken, TokenSource, environment
from itwin_async.events import OnEvent
from itwin_async.limits import Limiter
from itwin_async.retries import Retry
from itwin_async.sign_in import UserSignIn


class SessionOptions(TypedDict, total=False):
    """The keywords of `ITwinSession` besides its token provider and base."""

    limiter: Limiter | None
    """How many requests at once and how often; ``Limiter()`` by default."""
    retry: Retry | None
    """Which failures are tried again, and after how long; ``Retry()`` by default."""
    timeout: float
    """Seconds to wait for the headers of a response, and for each KiB of its body; 60."""
    buffer_bytes: int
    """Bytes that pages read ahead may hold, over all lists; 64 MiB."""
    max_body: int
    """Bytes of a body beyond which it is a `TransportError`; 320 MiB."""
    http: ClientSession | None
    """Your own ``aiohttp.ClientSession``, which is never closed here."""
    on_event: OnEvent | None
    """Called with each `Event`, quickly."""
    proxy: str | None
    """URL of a proxy through which every request goes; not with ``http``."""
    ca_file: str | os.PathLike[str] | None
    """File of certificate authorities (PEM) trusted besides the system's; not with ``http``."""
    allow_plain_http: bool
    """Allow ``http://`` on any host, which whoever is on the way can read and change."""


def provider_of_environment(base_url: str | None) -> tuple[TokenSource, str | None]:
    """Who asks by the environment, and the base, which the profile of a login may know."""
    has_id = environment("ITWIN_CLIENT_ID") is not None
    if has_id and environment("ITWIN_CLIENT_SECRET") is not None:
        return ClientCredentials.from_env(), base_url
    if environment("ITWIN_ACCESS_TOKEN") is not None:
        try:
            return StaticToken(environment("ITWIN_ACCESS_TOKEN") or ""), base_url
        except ValueError as error:
            raise ValueError(f"ITWIN_ACCESS_TOKEN: {error}") from None
    name = environment("ITWIN_PROFILE") or profiles.DEFAULT
    store = profiles.store_of(name)
    # A link may lead to nothing; where there is nothing at all, one quick look is enough.
    if os.path.lexists(store.path) and store.path.exists():
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
