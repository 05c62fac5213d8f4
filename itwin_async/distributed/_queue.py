"""The queue of batches: which share runs which batch, and what follows when one fails.

A worker that can do nothing, such as one without valid credentials, fails fast: left alone, its
share would take most of the batches, and all of them would fail. So a batch that failed is run on
another share, and a share on which several failed in a row gets no more.
"""

import asyncio
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from itwin_async.distributed._manifest import Batch

# Batches that fail in a row until a share is stopped. A token host that is away for a moment fails
# one of them; a share on which all fail takes no more than these from the others.
MAX_IN_ROW: Final = 3
# Shares that fail a batch, though they have run others: then the batch is at fault.
MAX_PROVEN: Final = 2


@dataclass(slots=True)
class _ShareRecord:
    in_row: int = 0  # batches that failed in a row
    proven: bool = False  # whether a batch has succeeded
    stopped: bool = False


@dataclass(slots=True)
class _BatchRecord:
    failed_on: set[int] = field(default_factory=set[int])
    proven: int = 0  # how many of these shares were proven
    reason: str = ""


class BatchQueue:
    """The batches that wait to be run. Shares are known by their number."""

    def __init__(self, batches: Iterable[Batch], shares: Iterable[int]) -> None:
        # Batches that failed in an earlier run come last, so that they hold up no others.
        self._waiting = deque(sorted(batches, key=lambda batch: bool(batch.failures)))
        self._shares = {number: _ShareRecord() for number in shares}
        self._failed: dict[str, _BatchRecord] = {}
        self._running = 0
        self._changed = asyncio.Event()

    @property
    def left(self) -> int:
        """How many batches wait."""
        return len(self._waiting)

    def is_stopped(self, share: int) -> bool:
        """Whether a share gets no more batches."""
        return self._shares[share].stopped

    async def next(self, share: int) -> Batch | None:
        """The next batch for a share; None if there are no more.

        Waits while the last batches run on other shares: one of them may fail, and come back.
        """
        while not self.is_stopped(share):
            for batch in self._waiting:
                if share not in self._record(batch).failed_on:
                    self._waiting.remove(batch)
                    self._running += 1
                    return batch
            if not self._running:
                return None
            await self._changed.wait()
        return None

    def succeeded(self, share: int) -> None:
        """Note that a share has run a batch."""
        record = self._shares[share]
        record.in_row, record.proven = 0, True
        self._finish_one()

    def abandoned(self) -> None:
        """Note that a batch has failed through no fault of its share, and is not run again."""
        self._finish_one()

    def failed(self, share: int, batch: Batch, reason: str) -> dict[str, str]:
        """Note that a batch has failed on a share; another one runs it, if one is left for it.

        Returns the batches that no share will run any more, by their keys, with the last reason of
        each. There are none once all shares are stopped: then the batches left are not at fault.
        """
        record, history = self._shares[share], self._record(batch)
        history.failed_on.add(share)
        history.reason = reason
        history.proven += record.proven and not record.in_row
        record.in_row += 1
        record.stopped = record.in_row >= MAX_IN_ROW
        self._waiting.appendleft(batch)  # first: the next share soon shows which one is at fault
        running = self.running_shares
        given_up: dict[str, str] = {}
        for waiting in list(self._waiting):
            known = self._record(waiting)
            if running and (known.proven >= MAX_PROVEN or known.failed_on.issuperset(running)):
                self._waiting.remove(waiting)
                given_up[waiting.key] = known.reason
        self._finish_one()
        return given_up

    @property
    def running_shares(self) -> set[int]:
        """The shares that are not stopped."""
        return {number for number, record in self._shares.items() if not record.stopped}

    def _record(self, batch: Batch) -> _BatchRecord:
        return self._failed.setdefault(batch.key, _BatchRecord())

    def _finish_one(self) -> None:
        self._running -= 1
        self._changed.set()
        self._changed = asyncio.Event()
