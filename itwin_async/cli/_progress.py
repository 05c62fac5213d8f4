"""Progress on stderr, where stderr is a terminal and nothing else is written to it."""

import logging
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn
from rich.text import Text

from itwin_async import Event, ITwinSession, RateLimited
from itwin_async.cli._stdio import Stderr, as_file
from itwin_async.cli._tables import printable


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
    """How far a command is: ``count`` of ``unit``, of which ``before`` were there at its start."""

    unit: str
    count: int = 0
    before: int = 0
    bad: int = 0
    done: int = 0
    total: int = 0
    parts: str = ""
    started: float = field(default_factory=time.monotonic)

    def figures(self, itwin: ITwinSession) -> str:
        """All of it in a line, with rate, pauses and time."""
        seconds = time.monotonic() - self.started
        rate = (self.count - self.before) / seconds if seconds else 0.0
        words = [f"{self.count:,} {self.unit}", f"{rate:,.0f}/s"]
        if self.parts:
            words.insert(0, f"{self.done:,}/{self.total:,} {self.parts}")
        if self.bad:
            words.append(f"{self.bad:,} bad")
        pauses, left = itwin.stats.pauses, rate_limit.seconds_left()
        if pauses:
            words.append(f"{pauses} pause{'s' if pauses > 1 else ''}")
        if left:
            words.append(f"goes on in {left:.0f} s")
        minutes, rest = divmod(int(seconds), 60)
        return " · ".join((*words, f"{minutes}:{rest:02}"))


class _Figures(ProgressColumn):
    def __init__(self, meter: Meter, itwin: ITwinSession) -> None:
        super().__init__()
        self._meter, self._itwin = meter, itwin

    def render(self, task: Task) -> Text:
        if self._meter.parts:
            task.completed, task.total = self._meter.done, self._meter.total
        return Text(self._meter.figures(self._itwin), no_wrap=True, overflow="ellipsis")


@contextmanager
def progress(
    itwin: ITwinSession, title: str, meter: Meter, *, lines: bool = False
) -> Generator[None]:
    """Show a meter while this runs; ``lines`` tells that lines are written to stdout meanwhile.

    They and the log would run into it on a terminal: then there is none.
    """
    logs = logging.getLogger("itwin_async").isEnabledFor(logging.INFO)
    stderr = Stderr()
    if not stderr.isatty() or logs or (lines and sys.stdout.isatty()):
        yield
        return
    columns: list[ProgressColumn] = [
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        _Figures(meter, itwin),
    ]
    if meter.parts:
        columns.insert(2, BarColumn(bar_width=20))
    with Progress(
        *columns, console=Console(file=as_file(stderr)), transient=True, redirect_stdout=False
    ) as shown:
        shown.add_task(printable(title), total=None)
        yield
