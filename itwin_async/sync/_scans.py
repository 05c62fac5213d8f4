"""Scans of many iModels, some at a time, as one stream of steps."""

from collections import deque
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any, Final, Self

from itwin_async import (
    DecodeError,
    ITwinError,
    ITwinSession,
    LinkError,
    RateLimitError,
    ResponseError,
    UnauthorizedError,
    merged,
)
from itwin_async.sync._candidates import Candidate
from itwin_async.sync._progress import Progress
from itwin_async.sync._scan import Scan, ScanStep

_BUFFER: Final = 32  # steps that wait for the consumer
_MAX_FAILURES: Final = 10  # iModels that may fail before it is the platform that fails


class Scans:
    """The steps of the scans of some iModels, inside ``async with``.

    The progress moves as a step is handed over, and never before. An iModel that fails does not
    keep the others from being read: its error is raised behind them.
    """

    def __init__(
        self,
        itwin: ITwinSession,
        progress: Progress,
        candidates: Iterable[Candidate],
        *,
        data_type: Any,
        look_back: int,
        workers: int,
        changesets: bool = False,
    ) -> None:
        self._itwin = itwin
        self._progress = progress
        self._candidates = deque(candidates)
        self._data_type = data_type
        self._look_back = look_back
        self._changesets = changesets
        self._running: set[str] = set()  # two scans of one list would hand its entries over twice
        self._again: list[Candidate] = []
        self._failures: list[ITwinError] = []
        self._steps = merged(
            self._scans(), workers=workers, buffer=_BUFFER, on_error=self._handle_error
        )

    async def __aenter__(self) -> Self:
        await self._steps.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._steps.__aexit__(kind, error, traceback)

    def scan_first(self, candidate: Candidate) -> None:
        """Scan this iModel next, or again where a scan of it runs."""
        if candidate.imodel_id in self._running:
            self._again.append(candidate)
            return
        for waiting in self._candidates:
            if waiting.imodel_id == candidate.imodel_id:
                candidate = waiting
                self._candidates.remove(waiting)
                break
        self._candidates.appendleft(candidate)

    @property
    def left(self) -> list[Candidate]:
        """What was asked for too late, behind the end."""
        return [*self._candidates, *self._again]

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ScanStep:
        try:
            step = await anext(self._steps)
        except StopAsyncIteration:
            if self._failures:
                raise self._failure() from None
            raise
        if step.entry is None:
            self._running.discard(step.imodel_id)
        if step.state is not None:
            self._progress.put(step.imodel_id, step.state)
        elif step.gone:
            self._progress.set_gone(step.imodel_id)
        else:
            self._progress.report_hidden(step.imodel_id)
        return step

    def _scans(self) -> Iterator[Scan]:
        while self._candidates:
            candidate = self._candidates.popleft()
            if candidate.imodel_id in self._running:
                self._again.append(candidate)
                continue
            self._running.add(candidate.imodel_id)
            yield Scan(
                self._itwin,
                candidate,
                self._progress.state(candidate.imodel_id),
                data_type=self._data_type,
                look_back=self._look_back,
                changesets=self._changesets,
            )

    def _handle_error(self, scan: Scan, error: Exception) -> None:
        if not isinstance(error, ResponseError | DecodeError | LinkError) or isinstance(
            error, UnauthorizedError | RateLimitError
        ):
            raise error  # it is not this iModel that fails
        error.add_note(f"This was the list of iModel {scan.imodel_id}.")
        self._failures.append(error)
        if len(self._failures) >= _MAX_FAILURES:
            raise error

    def _failure(self) -> ITwinError:
        error, *others = self._failures
        if others:
            error.add_note(f"{1 + len(others)} iModels failed; this is the first one.")
        self._failures = []
        return error
