"""The scan of one iModel's list: its entries that were not handed over yet."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any, Final

import msgspec

from itwin_async import (
    Changeset,
    DecodeError,
    ExtendedData,
    ForbiddenError,
    ITwinSession,
    NotFoundError,
)
from itwin_async._rows.changesets import ChangesetReader
from itwin_async.sync._candidates import Candidate
from itwin_async.sync._list_state import ListState

_PAGE_SIZE: Final = 1_000
_FIRST_STEP: Final = 100  # entries, where a list is shorter than it was


class ScanStep(msgspec.Struct, frozen=True):
    """An entry that is new, and the state of its list once it was handed over.

    The last step of a scan has no entry. Its state is None where the iModel was not read: it is
    ``gone``, or hidden.
    """

    imodel_id: str
    entry: ExtendedData[Any] | None
    state: ListState | None
    gone: bool = False
    changeset: Changeset | None = None


class Scan:
    """The steps of the scan of one iModel."""

    def __init__(
        self,
        itwin: ITwinSession,
        candidate: Candidate,
        state: ListState | None,
        *,
        data_type: Any,
        look_back: int,
        changesets: bool = False,
    ) -> None:
        self.imodel_id: Final = candidate.imodel_id
        self._itwin = itwin
        self._candidate = candidate
        self._state = ListState() if state is None else state.copy()
        self._data_type = data_type
        self._look_back = look_back
        self._changesets = (
            ChangesetReader(itwin.imodels, candidate.imodel_id) if changesets else None
        )

    async def __aiter__(self) -> AsyncIterator[ScanStep]:
        imodel_id, state = self.imodel_id, self._state
        try:
            # A large page that was cut is sent again, and its list may have changed meanwhile.
            for is_last in (False, True):
                try:
                    async with aclosing(self._steps()) as steps:
                        async for step in steps:
                            yield step
                    break
                except DecodeError:
                    if is_last:
                        raise
        except NotFoundError:
            yield ScanStep(imodel_id, None, None, gone=True)
        except ForbiddenError:
            yield ScanStep(imodel_id, None, None)
        else:
            state.gone = False
            if self._candidate.dated:
                state.pushed, state.settled = self._candidate.pushed, self._candidate.settled
            yield ScanStep(imodel_id, None, state)
        finally:
            if self._changesets is not None:
                await self._changesets.aclose()

    async def _steps(self) -> AsyncGenerator[ScanStep]:
        """The entries that are new, read from where the window begins."""
        state, step, complete = self._state, _FIRST_STEP, False
        skip = state.start
        while not complete:
            entries = self._itwin.imodels.list_extended_data(
                self.imodel_id, self._data_type, skip=skip, page_size=_PAGE_SIZE
            )
            position = skip
            async with aiter(entries) as items:
                async for entry in items:
                    index = entry.changeset_index
                    if position == skip and skip and index > state.window[0]:
                        break  # the list is shorter than it was: begin further ahead
                    if state.is_new(position, index):
                        changeset = None
                        if self._changesets is not None:
                            changeset = await self._changesets.get(index)
                        state.add(index, self._look_back)
                        yield ScanStep(self.imodel_id, entry, state.copy(), changeset=changeset)
                    position += 1
            complete = position > skip or not skip
            skip, step = max(0, skip - step), step * 4
