"""Progress of a job: for the caller, and as a bar in a terminal or a notebook."""

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from itwin_async._core.listener import ProgressListener
from itwin_async.distributed._manifest import Batch

_UNSHOWABLE: Final = (OSError, ValueError)  # stderr is broken, or closed


@dataclass(frozen=True, slots=True)
class IngestProgress:
    """How far a job is: ``batches``, those ``done``, their rows; ``failed`` counts iModels."""

    batches: int
    done: int
    rows: int
    bad: int
    failed: int


class ProgressReport:
    """Calls the caller's function, and shows the bar. A bar that cannot be shown is left out."""

    def __init__(
        self, on_progress: Callable[[IngestProgress], object] | None, *, show: bool
    ) -> None:
        self._listener = ProgressListener(on_progress, "ingest")
        console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("batches"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rows]:,} rows"),
            TimeElapsedColumn(),
            console=console,
            disable=not (show and (console.is_terminal or console.is_jupyter)),
        )
        self._task = self._bar.add_task("", total=None, rows=0)

    def __enter__(self) -> Self:
        with suppress(*_UNSHOWABLE):
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with suppress(*_UNSHOWABLE):
            self._bar.stop()

    def update(self, batches: Iterable[Batch]) -> None:
        """Report the state of the batches."""
        batches = list(batches)
        progress = IngestProgress(
            batches=len(batches),
            done=sum(batch.done for batch in batches),
            rows=sum(batch.rows or 0 for batch in batches),
            bad=sum(batch.bad for batch in batches),
            failed=sum(len(batch.failures) for batch in batches),
        )
        with suppress(*_UNSHOWABLE):
            self._bar.update(
                self._task,
                total=progress.batches,
                completed=progress.done,
                rows=progress.rows,
                refresh=True,  # a notebook does not show the last of them otherwise
            )
        self._listener.report(progress)
