"""Notified iModels: they are scanned now, and again soon if nothing was there."""

from collections.abc import Iterable
from typing import Final

# Seconds to the next scan: an application pushes first, and stores its data a moment later.
_DELAYS: Final = (2.0, 8.0, 30.0)


class Notified:
    """When notified iModels are to be scanned."""

    def __init__(self, every: float | None) -> None:
        # The next poll comes soon enough after these.
        self._delays = tuple(delay for delay in _DELAYS if every is not None and delay < every)
        self._due: dict[str, tuple[float, int]] = {}  # when, and how many scans there were
        self._running: dict[str, int] = {}

    def add(self, imodel_id: str, now: float) -> None:
        """Scan it now."""
        self._due[imodel_id] = (now, 0)

    def run(self, imodel_id: str) -> None:
        """A scan of it has begun, or will in a moment."""
        self._due.pop(imodel_id, None)
        self._running[imodel_id] = 0

    @property
    def next(self) -> float | None:
        """When the next scan is due, None where there is none."""
        return min((when for when, _ in self._due.values()), default=None)

    def is_due(self, now: float) -> bool:
        """Whether a scan is due."""
        return self.next is not None and self.next <= now

    def take(self, now: float) -> list[str]:
        """The iModels whose scans are due, and begin."""
        due = [imodel_id for imodel_id, (when, _) in self._due.items() if when <= now]
        for imodel_id in due:
            self._running[imodel_id] = self._due.pop(imodel_id)[1]
        return due

    def scanned(self, found: Iterable[str], now: float) -> None:
        """The scans have ended, and found something new in these iModels."""
        known = set(found)
        for imodel_id, scans in self._running.items():
            if imodel_id not in known and imodel_id not in self._due and scans < len(self._delays):
                self._due[imodel_id] = (now + self._delays[scans], scans + 1)
        self._running.clear()

    def interrupted(self, found: Iterable[str]) -> None:
        """The scans have failed: those that found nothing are due at once."""
        for imodel_id in self._running.keys() - set(found):
            self._due[imodel_id] = (0.0, 0)
        self._running.clear()
