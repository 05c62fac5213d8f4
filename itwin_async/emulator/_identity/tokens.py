"""What the sign-in host issues: access tokens, refresh tokens and authorization codes."""

import secrets
import time
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from itwin_async.emulator._identity.clients import Client
from itwin_async.emulator._identity.users import User

T = TypeVar("T")
_PRUNE_EVERY: Final = 256


class IssuedTokens(Generic[T]):
    """Tokens of one kind, with what each stands for and when it expires.

    They are random, unlike all other data: a client that renews a token must see another one, also
    after a restart with the same seed.
    """

    def __init__(self, lifetime: float) -> None:
        self.lifetime = lifetime
        self._issued: dict[str, tuple[T, float]] = {}
        self._count = 0

    def issue(self, meaning: T, lifetime: float | None = None) -> str:
        """A new token."""
        self._count += 1
        now = time.monotonic()
        if self._count % _PRUNE_EVERY == 0:
            self._issued = {key: kept for key, kept in self._issued.items() if kept[1] > now}
        token = ".".join(secrets.token_hex(20) for _ in range(3))
        self._issued[token] = meaning, now + (self.lifetime if lifetime is None else lifetime)
        return token

    def get(self, token: str) -> T | None:
        """What a token stands for, or None where it is unknown or has expired."""
        issued = self._issued.get(token)
        return None if issued is None or issued[1] <= time.monotonic() else issued[0]

    def revoke(self, token: str) -> None:
        """Forget a token."""
        self._issued.pop(token, None)

    def expire_all(self) -> None:
        """Forget all tokens."""
        self._issued.clear()


@dataclass(slots=True, eq=False)
class Grant:
    """What a user granted to a client: one family of refresh tokens, which ends as a whole."""

    client: Client
    user: User
    scopes: tuple[str, ...]
    revoked: bool = False


@dataclass(slots=True, eq=False)
class AuthorizationCode:
    """A code that is exchanged once, with what must be shown again at that time."""

    grant: Grant
    redirect_uri: str
    challenge: str | None
    used: bool = False


@dataclass(slots=True, eq=False)
class RefreshToken:
    """A refresh token; it is used once, and the response to it carries the next one."""

    grant: Grant
    used: bool = False
