"""How far a command is, as a line of figures."""

import time
from dataclasses import dataclass, field
from typing import Final

from itwin_async import Event, ITwinSession, RateLimited


class RateLimitWatch:
    """Knows from a session's events how long its requests are still paused."""

    def __init__(self) -> None:
        self._until = 0.0

    def on_event(self, event: Event) -> None:
        """Remember the end of a pause; the longest wins."""
        if isinstance(event, RateLimited):
            self._until = max(self._until, time.monotonic() + event.seconds)

    def seconds_left(self) -> float:
        """Seconds until the end of the pause; 0 without one."""
        return max(0.0, self._until - time.monotonic())


rate_limit: Final = RateLimitWatch()  # of the one session that a command opens


@dataclass(slots=True)
class Meter:
    """How far a command is: ``count`` of ``unit``, of which ``before`` existed at its start."""

    unit: str
    count: int = 0
    before: int = 0
    bad: int = 0
    done: int = 0
    total: int = 0
    parts: str = ""
    started: float = field(default_factory=time.monotonic)

    def figures(self, itwin: ITwinSession) -> str:
        """One line of counts, with rate, pauses and time."""
        seconds = time.monotonic() - self.started
        rate = (self.count - self.before) / seconds if seconds else 0.0
        figures = [f"{self.count:,} {self.unit}", f"{rate:,.0f}/s"]
        if self.parts:
            figures.insert(0, f"{self.done:,}/{self.total:,} {self.parts}")
        if self.bad:
            figures.append(f"{self.bad:,} bad")
        pauses, paused_for = itwin.stats.pauses, rate_limit.seconds_left()
        if pauses:
            figures.append(f"{pauses} pause{'s' if pauses > 1 else ''}")
        if paused_for:
            figures.append(f"goes on in {paused_for:.0f} s")
        minutes, rest = divmod(int(seconds), 60)
        return " · ".join((*figures, f"{minutes}:{rest:02}"))
