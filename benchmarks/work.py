"""The work that a client does, and the proof that it did it."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field

HEADERS = {
    "Accept": "application/vnd.bentley.itwin-platform.v2+json",
    "Authorization": "Bearer t",
}
HTTP_TIMEOUT = 60.0  # seconds; long enough for every client


@dataclass(slots=True)
class Spec:
    """The work that the harness asks for."""

    base: str
    lists: list[str]  # iModel ids, walked at once
    top: int = 100
    bound: int = 1  # requests in flight at most; 1 means that nothing needs to be bounded
    requests: int = 0  # where set: single entries, `bound` at once, instead of lists
    ahead: int = 0
    as_struct: bool = False
    stall: bool = False
    warm_up: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Tally:
    """Proof that the work was done, and the time of its first item."""

    entries: int = 0
    items: int = 0
    indexes: int = 0
    first: float = 0.0

    def add(self, entries: int, items: int, indexes: int) -> None:
        """Add one list, or one entry."""
        self.entries += entries
        self.items += items
        self.indexes += indexes

    def mark(self) -> None:
        """Note the time of the very first item."""
        if not self.first:
            self.first = time.perf_counter()


Work = Callable[[str, Tally], Awaitable[None]]  # walk one list
Get = Callable[[str, int, Tally], Awaitable[None]]  # get one entry
Client = Callable[[Spec], AbstractAsyncContextManager[tuple[Work, Get]]]


def list_url(spec: Spec, imodel_id: str) -> str:
    """Give the address of a list's first page."""
    return f"{spec.base}/imodels/{imodel_id}/changesets/extendeddata?$top={spec.top}"


def entry_url(spec: Spec, imodel_id: str, index: int) -> str:
    """Give the address of one entry."""
    return f"{spec.base}/imodels/{imodel_id}/changesets/{index}/extendeddata"


def semaphore_of(spec: Spec) -> asyncio.Semaphore | None:
    """Bound the requests in flight as hand-written code does. A single list needs no bound."""
    return asyncio.Semaphore(spec.bound) if len(spec.lists) > 1 else None
