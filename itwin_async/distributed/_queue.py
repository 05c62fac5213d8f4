"""Which lane runs which batch, and what follows when one fails.

A lane whose worker can do nothing, such as one without valid credentials, fails fast: left alone,
it would take most of the batches, and fail them all. So a batch that failed is run by another lane,
and a lane in which several failed in a row gets no more.
"""

import asyncio
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from itwin_async.distributed._manifest import Batch

# Batches that fail in a row until a lane is stopped. A token host that is away for a moment fails
# one of them; a lane that fails all takes no more than these from the others.
MAX_IN_ROW: Final = 3
# Lanes that did batches before, and fail this one: then it is the batch.
MAX_PROVEN: Final = 2


@dataclass(slots=True)
class _LaneRecord:
    in_row: int = 0
    proven: bool = False
    stopped: bool = False


@dataclass(slots=True)
class _BatchRecord:
    failed_in: set[int] = field(default_factory=set[int])
    proven: int = 0  # how many of these had done batches before
    reason: str = ""


class BatchQueue:
    """The batches that wait, for lanes that are known by number."""

    def __init__(self, batches: Iterable[Batch], lanes: Iterable[int]) -> None:
        # What has failed in an earlier run comes last, so that it keeps nothing else from coming.
        self._waiting = deque(sorted(batches, key=lambda batch: bool(batch.failures)))
        self._lanes = {number: _LaneRecord() for number in lanes}
        self._failed: dict[str, _BatchRecord] = {}
        self._running = 0
        self._changed = asyncio.Event()

    @property
    def left(self) -> int:
        """How many batches wait."""
        return len(self._waiting)

    def is_stopped(self, lane: int) -> bool:
        """Whether a lane gets no more batches."""
        return self._lanes[lane].stopped

    async def next(self, lane: int) -> Batch | None:
        """The next batch for a lane; None if there is none any more.

        Waits while others run the last batches, for one of them may fail, and come back.
        """
        while not self.is_stopped(lane):
            for batch in self._waiting:
                if lane not in self._record(batch).failed_in:
                    self._waiting.remove(batch)
                    self._running += 1
                    return batch
            if not self._running:
                return None
            await self._changed.wait()
        return None

    def succeeded(self, lane: int) -> None:
        """A lane has run a batch."""
        record = self._lanes[lane]
        record.in_row, record.proven = 0, True
        self._ended()

    def abandoned(self) -> None:
        """A batch has failed through no fault of its lane, and is not run again."""
        self._ended()

    def failed(self, lane: int, batch: Batch, reason: str) -> dict[str, str]:
        """A batch has failed in a lane; another one runs it, if there is one that may do better.

        Returns the batches that no lane will run any more, by their keys, and the last reason of
        each. There are none where all lanes were stopped: what is left is not at fault.
        """
        record, history = self._lanes[lane], self._record(batch)
        history.failed_in.add(lane)
        history.reason = reason
        history.proven += record.proven and not record.in_row
        record.in_row += 1
        record.stopped = record.in_row >= MAX_IN_ROW
        self._waiting.appendleft(batch)  # first, so that it is soon known whose fault it was
        running = self.running_lanes
        given_up: dict[str, str] = {}
        for each in list(self._waiting):
            known = self._record(each)
            if running and (known.proven >= MAX_PROVEN or known.failed_in.issuperset(running)):
                self._waiting.remove(each)
                given_up[each.key] = known.reason
        self._ended()
        return given_up

    @property
    def running_lanes(self) -> set[int]:
        """The lanes that were not stopped."""
        return {number for number, record in self._lanes.items() if not record.stopped}

    def _record(self, batch: Batch) -> _BatchRecord:
        return self._failed.setdefault(batch.key, _BatchRecord())

    def _ended(self) -> None:
        self._running -= 1
        self._changed.set()
        self._changed = asyncio.Event()
