"""Who the caller is: tokens and where they come from. Values only; a session keeps and renews."""

import math
import os
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, Self, TypeAlias, cast, runtime_checkable

from itwin_async._core.secrets import SecretDict, SecretValue
from itwin_async._core.urls import absolute_origin
from itwin_async.errors import DecodeError

# There is no dev sign-in host: dev signs in at QA.
_SIGN_IN: Final = {
    "https://api.bentley.com": "https://ims.bentley.com",
    "https://qa-api.bentley.com": "https://qa-ims.bentley.com",
    "https://dev-api.bentley.com": "https://qa-ims.bentley.com",
}
_HEADER_SAFE: Final = re.compile(r"[\x21-\x7e]+")
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,31}")


_set: Final = object.__setattr__


def _check_token(holder: "Token | StaticToken | ShareKey") -> None:
    """See that a token can stand in a header. No frame of the error shows the token."""
    kind: type[object] = type(holder.value)
    if not issubclass(kind, str):
        raise TypeError(f"a token must be a str, not {kind.__name__}")
    if not _HEADER_SAFE.fullmatch(holder.value):
        raise ValueError(
            "a token must be visible ASCII characters without spaces or line ends, and without "
            "the word Bearer before it"
        )


def sign_in_host(base_url: str) -> str | None:
    """The sign-in host that belongs to a base of the platform; None for another base."""
    return _SIGN_IN.get(base_url)


def environment(name: str) -> str | None:
    """A variable of the environment; None where it is missing or empty."""
    return os.environ.get(name, "").strip() or None


@dataclass(frozen=True, slots=True)
class Token:
    """An access token.

    ``value`` goes into the ``Authorization`` header behind its ``scheme``; ``expires_in`` is its
    life in seconds from now, or None for a token that is kept until the platform refuses it.
    """

    value: str = field(repr=False)
    expires_in: float | None = None
    scheme: str = field(default="Bearer", kw_only=True, repr=False)

    def __init__(
        self, value: str, expires_in: float | None = None, *, scheme: str = "Bearer"
    ) -> None:
        _set(self, "value", value)
        _set(self, "expires_in", expires_in)
        _set(self, "scheme", scheme)
        del value  # a report of an error shows the locals of its frames
        _check_token(self)
        life: object = expires_in
        if life is not None and (isinstance(life, bool) or not isinstance(life, int | float)):
            raise TypeError(f"expires_in must be a number of seconds, not {type(life).__name__}")
        if life is not None and not life > -math.inf:  # nan would never end
            raise ValueError(f"expires_in must be a number of seconds, not {life}")
        name: object = scheme
        if not isinstance(name, str):
            raise TypeError(f"scheme must be a str, not {type(name).__name__}")
        if not _SCHEME.fullmatch(name):
            raise ValueError("scheme must be one word, such as Bearer or Basic")


class TokenRequester(Protocol):
    """Sends the requests of a token provider; each session has one."""

    @property
    def base_url(self) -> str:
        """The session's base, such as ``https://api.bentley.com``."""
        ...

    async def post(self, url: str, form: Mapping[str, str]) -> object:
        """The decoded JSON of a successful answer; everything else raises the library's errors."""
        ...


@runtime_checkable
class TokenProvider(Protocol):
    """Something that gives a `Token`; a plain async callable that returns one does as well."""

    async def get_token(self, sign_in: TokenRequester, /) -> Token:
        """A fresh token. Called by one task at a time, ahead of the end of the token before.

        May take the session's ``timeout`` besides its requests through ``sign_in``, which have
        limits of their own. Each call that waits for the token raises what this raises.
        """
        ...


TokenSource: TypeAlias = TokenProvider | Callable[[], Awaitable[str | Token]]


@dataclass(frozen=True, slots=True)
class StaticToken:
    """A token that you have, used as it is until the platform rejects it."""

    value: str = field(repr=False)

    def __init__(self, value: str) -> None:
        _set(self, "value", value)
        del value  # a report of an error shows the locals of its frames
        _check_token(self)

    async def get_token(self, _sign_in: TokenRequester, /) -> Token:
        """The token."""
        return Token(self.value)


@dataclass(frozen=True, slots=True)
class ShareKey:
    """A key of a share, which reads what is shared without an account.

    It goes out as ``Authorization: Basic`` with the key as it is.
    Platform page: https://developer.bentley.com/apis/access-control-v2/operations/create-itwin-share/
    """

    value: str = field(repr=False)

    def __init__(self, key: str) -> None:
        _set(self, "value", key)
        del key  # a report of an error shows the locals of its frames
        _check_token(self)

    async def get_token(self, _sign_in: TokenRequester, /) -> Token:
        """The key."""
        return Token(self.value, scheme="Basic")


@dataclass(frozen=True, slots=True)
class ClientCredentials:
    """A service application that signs in with its id and secret (OAuth client credentials).

    Without ``token_url`` the sign-in host is the one that belongs to the session's base:
    production, QA, or QA for dev. Tokens last an hour and are renewed ahead of their end.
    Raises `UnauthorizedError` when the sign-in host refuses.
    Platform page: https://developer.bentley.com/apis/overview/authorization/service/
    """

    client_id: str
    client_secret: str = field(repr=False)
    token_url: str | None = field(default=None, kw_only=True)
    scope: str = field(default="itwin-platform", kw_only=True)

    def __init__(
        self,
        client_id: str,
        client_secret: str,
        *,
        token_url: str | None = None,
        scope: str = "itwin-platform",
    ) -> None:
        values = SecretDict(
            client_id=client_id, client_secret=client_secret, token_url=token_url, scope=scope
        )
        # Reports of errors show the locals of frames, and the repr of what is in the making.
        del client_id, client_secret, token_url
        for name in values:
            _set(self, name, None)
        for name in ("client_id", "client_secret", "scope"):
            if not isinstance(values[name], str):
                raise TypeError(f"{name} must be a str, not {type(values[name]).__name__}")
            if not values[name].strip():
                raise ValueError(f"{name} must not be empty")
        if values["token_url"] is not None:
            absolute_origin(SecretValue(values["token_url"]), "token_url")
        for name in values:
            _set(self, name, values[name])

    @classmethod
    def from_env(cls) -> Self:
        """From ``ITWIN_CLIENT_ID``, ``ITWIN_CLIENT_SECRET`` and, where set, ``ITWIN_TOKEN_URL``.

        Raises `ValueError` that names a missing variable.
        """
        for name in ("ITWIN_CLIENT_ID", "ITWIN_CLIENT_SECRET"):
            if environment(name) is None:
                raise ValueError(f"the environment variable {name} is not set")
        return cls(
            environment("ITWIN_CLIENT_ID") or "",
            environment("ITWIN_CLIENT_SECRET") or "",
            token_url=environment("ITWIN_TOKEN_URL"),
        )

    def endpoint(self, base_url: str) -> str:
        """Where to ask for a token; a ``ValueError`` for an unknown base without ``token_url``."""
        if self.token_url is not None:
            return self.token_url
        host = sign_in_host(base_url)
        if host is None:
            raise ValueError(
                f"no sign-in host is known for {base_url}: give ClientCredentials a token_url "
                "(ITWIN_TOKEN_URL)"
            )
        return f"{host}/connect/token"

    async def get_token(self, sign_in: TokenRequester, /) -> Token:
        """A token from the sign-in host."""
        form = SecretDict(
            grant_type="client_credentials",
            client_id=self.client_id,
            client_secret=self.client_secret,
            scope=self.scope,
        )
        return parse_token(await sign_in.post(self.endpoint(sign_in.base_url), form))


_LONGEST: Final = 86_400.0  # no platform token lives longer than a day, whatever an answer says


def parse_token(answer: object) -> Token:
    """The token of a token endpoint's answer (RFC 6749, section 5.1)."""
    fields = SecretDict(cast("dict[str, Any]", answer) if isinstance(answer, dict) else {})
    del answer  # a report of an error shows the locals of its frames
    life: object = fields.get("expires_in")
    if not _is_token(fields.get("access_token")):
        raise DecodeError("the token endpoint's answer has no usable access_token")
    try:
        known = isinstance(life, int | float | str) and not isinstance(life, bool)
        seconds = float(cast("float", life)) if known else 0.0
    except (ValueError, OverflowError):
        seconds = 0.0
    # An hour is what the platform's tokens live when the answer does not say.
    return Token(fields["access_token"], min(seconds, _LONGEST) if seconds > 0 else 3600.0)


def _is_token(value: object) -> bool:
    return isinstance(value, str) and _HEADER_SAFE.fullmatch(value) is not None
