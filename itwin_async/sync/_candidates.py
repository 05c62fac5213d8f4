"""Candidates: the iModels of a scope that may have something new, by their last push."""

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from itwin_async import ForbiddenError, IModel, ITwinSession, NotFoundError, merged
from itwin_async._core.http_date import parse_http_date
from itwin_async._core.validation import normalize_id, quote_segment
from itwin_async.sync._list_state import MAX_TIME
from itwin_async.sync._progress import Progress
from itwin_async.sync._scope import Scope

_PAGE_SIZE: Final = 1_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Candidate:
    """An iModel that may have something new: its last push, and whether that is long enough ago.

    ``pushed`` is in microseconds since 1970, None where nothing was pushed. ``dated`` is False
    where neither was asked for, as for a notified one.
    """

    imodel_id: str
    pushed: int | None = None
    settled: bool = False
    dated: bool = True


class CandidateFinder:
    """Finds the iModels of a scope that may have something new."""

    def __init__(
        self, itwin: ITwinSession, scope: Scope, progress: Progress, *, settle: float, workers: int
    ) -> None:
        self._itwin = itwin
        self._scope = scope
        self._progress = progress
        self._settle = settle
        self._workers = workers
        self._first = True

    async def find(self) -> list[Candidate]:
        """The iModels with a new push, or that may get data yet; reports those that are gone."""
        if self._scope.itwin_id is not None:
            candidates = await self._list(self._scope.itwin_id)
        else:
            # What is gone is asked for once more, in case that only our access to it was.
            ids = (
                imodel_id
                for imodel_id in self._scope.imodel_ids
                if self._first or not self._is_gone(imodel_id)
            )
            candidates = await self._get(ids)
        self._first = False
        return candidates

    async def _list(self, itwin_id: str) -> list[Candidate]:
        present: set[str] = set()
        candidates: list[Candidate] = []
        imodels = self._itwin.imodels.list_imodels(
            itwin_id, representation=True, page_size=_PAGE_SIZE
        )
        async with imodels.pages() as pages:
            async for page in pages:
                for imodel in page:
                    imodel_id = normalize_id(imodel.id)
                    if imodel_id not in present:
                        present.add(imodel_id)
                        self._judge(imodel, page.date, candidates)
        # One that was deleted while the pages were read can hide another one from the next page.
        absent = [
            imodel_id
            for imodel_id in self._progress.imodel_ids - present
            if not self._is_gone(imodel_id)
        ]
        if absent:
            candidates += await self._get(absent)
        return candidates

    def _judge(self, imodel: IModel, date: datetime | None, candidates: list[Candidate]) -> None:
        """Add the iModel to the candidates if it may have something new."""
        last_push = imodel.last_changeset_push_date_time
        pushed, settled = None, True
        if last_push is not None:
            pushed = min(max((last_push - _EPOCH) // timedelta(microseconds=1), 0), MAX_TIME)
            # Without a date nobody can tell, and data may come yet.
            age = -1.0 if date is None else (date - last_push).total_seconds()
            settled = not self._settle or age >= self._settle
        imodel_id = normalize_id(imodel.id)
        state = self._progress.state(imodel_id)
        if state is None or state.may_have_new(pushed):
            candidates.append(Candidate(imodel_id, pushed, settled))

    async def _get(self, imodel_ids: Iterable[str]) -> list[Candidate]:
        """Ask for iModels one by one, some at a time."""
        lookups = (_Lookup(self._itwin, self._progress, imodel_id) for imodel_id in imodel_ids)
        candidates: list[Candidate] = []
        async with merged(lookups, workers=self._workers) as answers:
            async for imodel, date in answers:
                self._judge(imodel, date, candidates)
        return candidates

    def _is_gone(self, imodel_id: str) -> bool:
        state = self._progress.state(imodel_id)
        return state is not None and state.gone


class _Body(msgspec.Struct):
    imodel: IModel = msgspec.field(name="iModel")


class _Lookup:
    """A list of one: the iModel and the date of the answer; nothing where it is gone or hidden."""

    def __init__(self, itwin: ITwinSession, progress: Progress, imodel_id: str) -> None:
        self._itwin = itwin
        self._progress = progress
        self._imodel_id = imodel_id

    async def __aiter__(self) -> AsyncIterator[tuple[IModel, datetime | None]]:
        path = f"/imodels/{quote_segment('imodel_id', self._imodel_id)}"
        try:
            answer = await self._itwin.request("GET", path, version="v2", returns=_Body, full=True)
        except NotFoundError:
            self._progress.set_gone(self._imodel_id)
        except ForbiddenError:
            self._progress.report_hidden(self._imodel_id)
        else:
            yield answer.data.imodel, parse_http_date(answer.headers.get("Date"))
