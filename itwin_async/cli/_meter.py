"""How far a command is, as a line of figures."""

import time
from dataclasses import dataclass, field

from itwin_async import DownloadProgress, Event, ITwinSession, RateLimited


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


class CommandSession(ITwinSession):
    """The session of a command, with what watches its pauses."""

    rate_limit: RateLimitWatch


@dataclass(slots=True)
class Meter:
    """How far a command is: ``count`` of ``unit``, of which ``before`` existed at its start.

    ``done`` of the ``total`` ``parts`` are complete. ``end`` is the whole of ``count``, where it is
    known.
    """

    unit: str
    count: int = 0
    before: int = 0
    bad: int = 0
    done: int = 0
    total: int = 0
    parts: str = ""
    end: int = 0
    started: float = field(default_factory=time.monotonic)

    @property
    def position(self) -> tuple[int, int]:
        """How far a bar is, and where it ends."""
        return (self.count, self.end) if self.end else (self.done, self.total)

    def show_download(self, now: DownloadProgress) -> None:
        """Show how far a download is."""
        self.count, self.end = now.bytes_done, now.bytes_total or 0
        self.done, self.total = now.files_done, now.files

    def figures(self, itwin: CommandSession) -> str:
        """One line of counts, with rate, pauses and time."""
        seconds = time.monotonic() - self.started
        if self.unit == "bytes":  # at the rate of what was received: the rest was there before
            rate = itwin.stats.bytes_received / seconds if seconds else 0.0
            whole = f" of {_size(self.end)}" if self.end else ""
            figures = [f"{_size(self.count)}{whole}", f"{_size(rate)}/s"]
        else:
            rate = (self.count - self.before) / seconds if seconds else 0.0
            figures = [f"{self.count:,} {self.unit}", f"{rate:,.0f}/s"]
        if self.parts:
            figures.insert(0, f"{self.done:,}/{self.total:,} {self.parts}")
        if self.bad:
            figures.append(f"{self.bad:,} bad")
        pauses, paused_for = itwin.stats.pauses, itwin.rate_limit.seconds_left()
        if pauses:
            figures.append(f"{pauses} pause{'s' if pauses > 1 else ''}")
        if paused_for:
            figures.append(f"goes on in {paused_for:.0f} s")
        minutes, rest = divmod(int(seconds), 60)
        return " · ".join((*figures, f"{minutes}:{rest:02}"))


def _size(count: float) -> str:
    """A number of bytes in the unit that fits."""
    for unit in ("bytes", "kB", "MB"):
        if count < 1_000:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1_000
    return f"{count:,.1f} GB"
