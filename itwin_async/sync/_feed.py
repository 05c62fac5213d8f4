"""The change feed: what is new in the extended data of iModels, each entry once."""

import asyncio
from collections.abc import Iterable
from types import UnionType
from typing import Any, Final, Generic, NoReturn, Self, TypeVar, overload

from itwin_async import ExtendedData, ITwinSession
from itwin_async._core.validation import (
    Id,
    check_id,
    check_seconds,
    check_text,
    check_type,
    normalize_id,
)
from itwin_async.sync._candidates import Candidate, CandidateFinder
from itwin_async.sync._list_state import check_look_back
from itwin_async.sync._notified import Notified
from itwin_async.sync._poll_interval import PollInterval
from itwin_async.sync._progress import Progress
from itwin_async.sync._scans import Scans
from itwin_async.sync._scope import Scope

T = TypeVar("T")
_WORKERS: Final = 8


class ChangeFeed(Generic[T]):
    """The extended data that was not handed over yet, of an iTwin or of some iModels, each once.

    Give exactly one of ``itwin_id`` and ``imodel_ids``: an iTwin costs a request for a thousand
    iModels, ids cost a request each. Only iModels to which something was pushed since the last poll
    are asked for their data, and those whose last push was less than ``settle`` seconds ago at the
    last poll, by the clock of the platform: an application pushes first, and stores its data a
    moment later. Of an iModel that is asked, data of the last ``look_back`` changesets is found
    even where it was stored late; data for older ones is not. New iModels are found; one that was
    deleted is logged, reported by the event `IModelGone`, and left out.

    The feed is read inside ``async with``. `checkpoint` covers exactly what was handed over, at
    each moment: a feed that is given it goes on there, in any process and any version.

    Args:
        itwin: a session; its limiter bounds the requests.
        itwin_id: all iModels of this iTwin.
        imodel_ids: these iModels; one id, or several.
        data_type: what a payload is decoded to, as in `IModels.list_extended_data`.
        checkpoint: where to go on. `ValueError` where it belongs to another iTwin or other iModels.
        every: seconds from one poll to the next, up to four times that while nothing happens; None
            for one poll, after which the feed ends.
        look_back: changesets of an iModel, at most 1,000,000.
        settle: seconds.

    Example::

        checkpoint = None  # what was stored the last time
        async with ChangeFeed(itwin, itwin_id=itwin_id, checkpoint=checkpoint, every=None) as feed:
            async for entry in feed:
                print(entry.imodel_id, entry.changeset_index, entry.data)
                checkpoint = feed.checkpoint  # store it with what was made of the entry

    Iterating raises `ITwinError`, such as `NotFoundError` for an unknown iTwin. Nothing is lost
    then, nor by a cancellation: iterating again goes on. An iModel that fails keeps no other from
    being read, and its error is raised behind them; one that the token may not read is logged and
    left out.
    """

    @overload
    def __init__(
        self: "ChangeFeed[dict[str, Any]]",
        itwin: ITwinSession,
        *,
        itwin_id: Id | None = None,
        imodel_ids: Id | Iterable[Id] = (),
        data_type: None = None,
        checkpoint: str | None = None,
        every: float | None = 60.0,
        look_back: int = 20,
        settle: float = 300.0,
    ) -> None: ...
    @overload
    def __init__(
        self,
        itwin: ITwinSession,
        *,
        itwin_id: Id | None = None,
        imodel_ids: Id | Iterable[Id] = (),
        data_type: type[T],
        checkpoint: str | None = None,
        every: float | None = 60.0,
        look_back: int = 20,
        settle: float = 300.0,
    ) -> None: ...
    @overload
    def __init__(
        self: "ChangeFeed[Any]",
        itwin: ITwinSession,
        *,
        itwin_id: Id | None = None,
        imodel_ids: Id | Iterable[Id] = (),
        data_type: UnionType,
        checkpoint: str | None = None,
        every: float | None = 60.0,
        look_back: int = 20,
        settle: float = 300.0,
    ) -> None: ...
    def __init__(
        self,
        itwin: ITwinSession,
        *,
        itwin_id: Id | None = None,
        imodel_ids: Id | Iterable[Id] = (),
        data_type: Any = None,
        checkpoint: str | None = None,
        every: float | None = 60.0,
        look_back: int = 20,
        settle: float = 300.0,
    ) -> None:
        check_type("itwin", itwin, ITwinSession)
        self._scope: Final = Scope.of(itwin_id, imodel_ids)
        check_text("checkpoint", checkpoint)
        check_seconds("every", every, optional=True)
        check_look_back(look_back)
        check_seconds("settle", settle, zero=True)
        itwin.imodels.list_extended_data("-", data_type)  # checks the type
        self._itwin = itwin
        self._data_type = data_type
        self._look_back = look_back
        self._interval = None if every is None else PollInterval(every)
        self._progress = Progress(itwin, self._scope.digest, checkpoint)
        self._finder = CandidateFinder(
            itwin, self._scope, self._progress, settle=settle, workers=_WORKERS
        )
        self._scans: Scans | None = None
        self._state = "new"
        self._waiting = False  # whether a task waits for the next entry
        self._wake = asyncio.Event()
        self._notified = Notified(every)
        self._found: set[str] = set()  # iModels of the scans that run, with something new
        self._due: float | None = 0.0  # when to poll, by the loop's clock
        self._relist = False  # whether to ask before that
        self._complete = False  # whether the scans that run are of all candidates
        self._busy = False  # whether something happened since then

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a running feed does not pickle: store feed.checkpoint, and make a feed of it in each "
            "process"
        )

    def __repr__(self) -> str:
        if not hasattr(self, "_state"):  # a report of an error in its making
            return "ChangeFeed()"
        scope = self._scope.itwin_id or f"{len(self._scope.imodel_ids)} iModels"
        return f"ChangeFeed({scope}, {self._state})"

    @property
    def checkpoint(self) -> str:
        """Where to go on: it covers the entries that were handed over, and no other.

        It has some 50 bytes for each iModel, and belongs to this iTwin or these iModels. It can be
        read at any time, also after the block.
        """
        return self._progress.checkpoint

    def notify(self, imodel_id: Id) -> None:
        """Scan this iModel now, as when a webhook reports that something was pushed.

        If nothing is there yet, the feed scans it again after 2, 8 and 30 seconds. Call it in the
        event loop. An iModel that is not known yet makes the feed poll the whole iTwin; one that
        belongs to another iTwin does no harm.
        """
        check_id("imodel_id", imodel_id, optional=False)
        imodel_id = normalize_id(imodel_id)
        state = self._progress.state(imodel_id)
        if state is None or state.gone:
            if self._scope.itwin_id is not None or imodel_id in self._scope.imodel_ids:
                self._relist = True
        elif self._scans is not None:
            self._scans.scan_first(Candidate(imodel_id, dated=False))
            self._found.discard(imodel_id)
            self._notified.run(imodel_id)
        else:
            self._notified.add(imodel_id, 0.0)
        self._wake.set()

    async def __aenter__(self) -> Self:
        if self._state != "new":
            raise RuntimeError("a feed is used once: make another one of feed.checkpoint")
        self._state = "open"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End the feed, as the end of the block does; a task that waits for an entry gets none."""
        self._state = "closed"
        self._wake.set()
        await self._close_scans()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ExtendedData[T]:
        if self._waiting:
            raise RuntimeError("two tasks iterate over one feed")
        if self._state == "new":
            raise RuntimeError("a feed is read inside its 'async with' block")
        self._waiting = True
        try:
            while self._state == "open":
                scans = self._scans or await self._begin_scans()
                if scans is None:
                    break
                entry = await self._next_entry(scans)
                if entry is not None:
                    return entry
        finally:
            self._waiting = False
        raise StopAsyncIteration

    async def _next_entry(self, scans: Scans) -> ExtendedData[T] | None:
        """The next entry of the scans that run; None behind the last one."""
        try:
            async for step in scans:
                if step.entry is not None:
                    self._busy = True
                    self._found.add(step.imodel_id)
                    return step.entry
        except Exception:
            self._notified.interrupted(self._found)
            self._notify_left(scans)
            self._relist |= self._complete
            await self._close_scans()
            if self._state == "closed":
                return None
            raise
        now = asyncio.get_running_loop().time()
        self._notified.scanned(self._found, now)
        self._notify_left(scans)
        if self._complete:
            interval = self._interval
            self._due = None if interval is None else now + interval.after(busy=self._busy)
        await self._close_scans()
        return None

    def _notify_left(self, scans: Scans) -> None:
        for candidate in scans.left:
            if not candidate.dated:  # the others are found by their last push
                self._notified.add(candidate.imodel_id, 0.0)

    async def _begin_scans(self) -> Scans | None:
        """Wait until something is to be scanned, and begin; None at the end of the feed."""
        clock = asyncio.get_running_loop().time
        while not (self._relist or self._is_due() or self._notified.is_due(clock())):
            due = [when for when in (self._due, self._notified.next) if when is not None]
            if self._due is None or self._state != "open":
                return None
            self._wake.clear()
            timer = asyncio.get_running_loop().call_at(min(due), self._wake.set)
            try:
                await self._wake.wait()
            finally:
                timer.cancel()
        candidates: list[Candidate] = []
        self._complete = self._relist or self._is_due()
        if self._complete:
            asked_for, self._relist = self._relist, False
            try:
                candidates = await self._finder.find()
            except BaseException:
                self._relist |= asked_for
                raise
            if self._state != "open":
                return None
            self._busy = bool(candidates)
        elif self._due is not None and self._interval is not None:
            self._interval.reset()
            self._due = min(self._due, clock() + self._interval.every)
        asked = {candidate.imodel_id for candidate in candidates}
        notified = [key for key in self._notified.take(clock()) if key not in asked]
        self._found = set()
        self._scans = Scans(
            self._itwin,
            self._progress,
            [*(Candidate(key, dated=False) for key in notified), *candidates],
            data_type=self._data_type,
            look_back=self._look_back,
            workers=_WORKERS,
        )
        return await self._scans.__aenter__()

    def _is_due(self) -> bool:
        return self._due is not None and asyncio.get_running_loop().time() >= self._due

    async def _close_scans(self) -> None:
        scans, self._scans = self._scans, None
        if scans is not None:
            await scans.__aexit__(None, None, None)
