"""An operation sees a request as this value, and nothing of the HTTP library."""

from collections.abc import Mapping
from dataclasses import dataclass

from itwin_async.emulator._blobs import Blobs
from itwin_async.emulator._world import World


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request, as an operation sees it."""

    world: World
    blobs: Blobs
    params: Mapping[str, str]
    query: tuple[tuple[str, str], ...]
    headers: Mapping[str, str]
    body: bytes
    origin: str
    path: str
    max_top: int | None = None
    max_items: int | None = None

    def get(self, name: str) -> str | None:
        """The first value of a query parameter; an empty one counts as absent."""
        return next((value for key, value in self.query if key == name), None) or None

    @property
    def url(self) -> str:
        """The address without its query, as links spell it."""
        return f"{self.origin}{self.path.rstrip('/')}"


def prefers_full(call: Call) -> bool:
    """Whether ``Prefer: return=representation`` was sent."""
    return "return=representation" in call.headers.get("Prefer", "").replace(" ", "").lower()
