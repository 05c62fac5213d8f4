"""The progress bar on a terminal. Imported where there is one."""

from collections.abc import Generator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn
from rich.text import Text

from itwin_async.cli._meter import CommandSession, Meter
from itwin_async.cli._stdio import Stderr, as_file
from itwin_async.cli._text import printable


class _Figures(ProgressColumn):
    def __init__(self, meter: Meter, itwin: CommandSession) -> None:
        super().__init__()
        self._meter, self._itwin = meter, itwin

    def render(self, task: Task) -> Text:
        if self._meter.parts:
            task.completed, task.total = self._meter.position
        return Text(self._meter.figures(self._itwin), no_wrap=True, overflow="ellipsis")


@contextmanager
def progress_bar(itwin: CommandSession, title: str, meter: Meter) -> Generator[None]:
    """Draw a meter on stderr while this runs, with a bar if it counts parts."""
    columns: list[ProgressColumn] = [
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        _Figures(meter, itwin),
    ]
    if meter.parts:
        columns.insert(2, BarColumn(bar_width=20))
    with Progress(
        *columns, console=Console(file=as_file(Stderr())), transient=True, redirect_stdout=False
    ) as bar:
        bar.add_task(printable(title), total=None)
        yield
