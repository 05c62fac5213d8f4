"""A request as a handler sees it: parsed, authorized, and free of the HTTP library."""

from collections.abc import Mapping
from dataclasses import dataclass

from itwin_async.emulator._api.url_signing import UrlSigner
from itwin_async.emulator._identity.server import IdentityServer
from itwin_async.emulator._identity.users import User
from itwin_async.emulator._state.state import State


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request. ``params`` are the values of the names in its route's path."""

    method: str
    path: str
    params: Mapping[str, str]
    raw_query: str
    query: tuple[tuple[str, str], ...]
    headers: Mapping[str, str]
    body: bytes
    origin: str
    user: User
    state: State
    identity: IdentityServer
    signer: UrlSigner
    max_top: int | None = None
    max_items: int | None = None

    def get(self, name: str) -> str | None:
        """The first value of a query parameter; an empty one counts as absent."""
        return next((value for key, value in self.query if key == name), None) or None

    @property
    def url(self) -> str:
        """The address without its query, as links spell it."""
        return f"{self.origin}{self.path.rstrip('/')}"

    @property
    def prefers_full(self) -> bool:
        """Whether ``Prefer: return=representation`` was sent."""
        return "return=representation" in self.headers.get("Prefer", "").replace(" ", "").lower()
