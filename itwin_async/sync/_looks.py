"""Looks at many iModels, some at a time, as one stream of steps."""

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
from itwin_async.sync._look import Look, Step
from itwin_async.sync._progress import Progress
from itwin_async.sync._survey import Target

_BUFFER: Final = 32  # steps that wait for the consumer
_MAX_FAILURES: Final = 10  # iModels that may fail before it is the platform that fails


class Looks:
    """The steps of the looks at some iModels, inside ``async with``.

    The progress moves as a step is handed over, and never before. An iModel that fails does not
    keep the others from being read: its error is raised behind them.
    """

    def __init__(
        self,
        itwin: ITwinSession,
        progress: Progress,
        targets: Iterable[Target],
        *,
        data_type: Any,
        look_back: int,
        workers: int,
        changesets: bool = False,
    ) -> None:
        self._itwin = itwin
        self._progress = progress
        self._targets = deque(targets)
        self._data_type = data_type
        self._look_back = look_back
        self._changesets = changesets
        self._running: set[str] = set()  # two looks at one list would hand its entries over twice
        self._again: list[Target] = []
        self._failures: list[ITwinError] = []
        self._steps = merged(
            self._looks(), workers=workers, buffer=_BUFFER, on_error=self._handle_error
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

    def look_first(self, target: Target) -> None:
        """Look at this iModel next, or again where it is being looked at."""
        if target.imodel_id in self._running:
            self._again.append(target)
            return
        for waiting in self._targets:
            if waiting.imodel_id == target.imodel_id:
                target = waiting
                self._targets.remove(waiting)
                break
        self._targets.appendleft(target)

    @property
    def left(self) -> list[Target]:
        """What was asked for too late, behind the end."""
        return [*self._targets, *self._again]

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Step:
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

    def _looks(self) -> Iterator[Look]:
        while self._targets:
            target = self._targets.popleft()
            if target.imodel_id in self._running:
                self._again.append(target)
                continue
            self._running.add(target.imodel_id)
            yield Look(
                self._itwin,
                target,
                self._progress.state(target.imodel_id),
                data_type=self._data_type,
                look_back=self._look_back,
                changesets=self._changesets,
            )

    def _handle_error(self, look: Look, error: Exception) -> None:
        if not isinstance(error, ResponseError | DecodeError | LinkError) or isinstance(
            error, UnauthorizedError | RateLimitError
        ):
            raise error  # it is not this iModel that fails
        error.add_note(f"This was the list of iModel {look.imodel_id}.")
        self._failures.append(error)
        if len(self._failures) >= _MAX_FAILURES:
            raise error

    def _failure(self) -> ITwinError:
        error, *others = self._failures
        if others:
            error.add_note(f"{1 + len(others)} iModels failed; this is the first one.")
        self._failures = []
        return error
