"""The seconds between two polls: more while nothing happens, with jitter."""

from typing import Final

from itwin_async._core.jitter import jitter

_GROWTH: Final = 1.5  # after a poll that found nothing
_MAX_GROWTH: Final = 4.0
_JITTER: Final = 0.1


class PollInterval:
    """The time from one poll to the next, ``every`` seconds up to four times that."""

    def __init__(self, every: float) -> None:
        self.every: Final = every
        self._growth = 1.0

    def after(self, *, busy: bool) -> float:
        """Seconds to the next poll, after one that found something to do or did not."""
        self._growth = 1.0 if busy else min(_MAX_GROWTH, self._growth * _GROWTH)
        return min(self._growth * jitter(1 - _JITTER, 1 + _JITTER), _MAX_GROWTH) * self.every

    def reset(self) -> None:
        """Something happened: poll as often as at the beginning."""
        self._growth = 1.0
