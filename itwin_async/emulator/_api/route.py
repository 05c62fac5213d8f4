"""Routes: which handler serves a method and a path, and what a caller needs for it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final
from urllib.parse import unquote

from itwin_async.emulator._api.request import Request
from itwin_async.emulator._response import Response

Handler = Callable[[Request], Response]
_VERSIONS: Final = {"imodels": 2, "webhooks": 2}  # of the APIs whose version is not 1


class Access(Enum):
    """What a caller needs."""

    PUBLIC = "no token; neither the rate limit nor the latency of the API"
    TOKEN = "any token"  # noqa: S105
    READ = "a token of a user who may read"
    FILES = "a token of a user who may read the files of iModels"
    WRITE = "a token of a user who may write"


@dataclass(frozen=True, slots=True)
class Route:
    """One operation. Several rows may have one name: methods of one endpoint."""

    name: str
    method: str
    path: str
    handler: Handler
    access: Access

    @property
    def segments(self) -> list[str]:
        """The parts of its path; one in braces is a name."""
        return self.path.strip("/").split("/")

    @property
    def is_api(self) -> bool:
        """Whether it belongs to the API behind the token."""
        return self.access is not Access.PUBLIC

    @property
    def api(self) -> str:
        """The API it belongs to: the first part of its path."""
        return self.segments[0]

    @property
    def version(self) -> int:
        """The version of the API, which stands in ``Accept``."""
        return _VERSIONS.get(self.api, 1)

    def match(self, method: str, segments: Sequence[str]) -> dict[str, str] | None:
        """The values of the names in the path, or None where it does not match."""
        mine = self.segments
        # The name of a file may hold slashes, so that this last name takes the rest of the path.
        if mine[-1] == "{name}" and len(segments) > len(mine):
            rest = len(mine) - 1
            segments = [*segments[:rest], "/".join(segments[rest:])]
        if method != self.method or len(segments) != len(mine):
            return None
        params: dict[str, str] = {}
        for pattern, segment in zip(mine, segments, strict=True):
            if pattern.startswith("{"):
                if not segment:
                    return None
                params[pattern[1:-1]] = unquote(segment)
            elif pattern != unquote(segment):
                return None
        return params


def route(method: str, path: str, handler: Handler, access: Access | None = None) -> Route:
    """A row of the table: an operation with the name of its handler.

    Without ``access`` a GET needs a user who may read, and anything else one who may write.
    """
    usual = Access.READ if method == "GET" else Access.WRITE
    return Route(handler.__name__, method, path, handler, access or usual)
