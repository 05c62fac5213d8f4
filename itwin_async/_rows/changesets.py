"""The changesets of a list's entries, read along with it."""

from datetime import datetime
from typing import Final

from itwin_async._pagination.list_iterators import ItemIterator
from itwin_async.imodels import Changeset, IModels

_PAGE_SIZE: Final = 1_000


async def first_index_since(imodels: IModels, imodel_id: str, moment: datetime) -> int | None:
    """The lowest index of the changesets that were pushed since this time; None if none was."""
    first: int | None = None
    newest = imodels.list_changesets(imodel_id, order="desc", page_size=_PAGE_SIZE)
    async with aiter(newest) as changesets:
        async for changeset in changesets:
            if changeset.push_date_time is not None and changeset.push_date_time < moment:
                break
            first = changeset.index
    return first


class ChangesetReader:
    """Changesets of one iModel by their index, for indexes that mostly grow."""

    def __init__(self, imodels: IModels, imodel_id: str) -> None:
        self._imodels = imodels
        self._imodel_id = imodel_id
        self._items: ItemIterator[Changeset] | None = None
        self._last: Changeset | None = None
        self._after = 0  # all changesets up to this index were passed

    async def get(self, index: int) -> Changeset | None:
        """The changeset with this index; None if the platform lists none."""
        if self._last is not None and self._last.index == index:
            return self._last
        if not self._after < index <= self._after + _PAGE_SIZE:
            await self.aclose()  # what lies between need not be read
        # A list that has ended before this index may be older than the push.
        if self._items is None or not await self._advance(self._items, index):
            await self.aclose()
            self._items = aiter(
                self._imodels.list_changesets(
                    self._imodel_id,
                    after_index=index - 1,
                    representation=True,
                    page_size=_PAGE_SIZE,
                )
            )
            await self._advance(self._items, index)
        found = self._last
        return found if found is not None and found.index == index else None

    async def _advance(self, items: ItemIterator[Changeset], index: int) -> bool:
        """Read up to this index; False where the list ends before it."""
        while self._last is None or self._last.index < index:
            try:
                self._last = await anext(items)
            except StopAsyncIteration:
                return False
            self._after = self._last.index
        return True

    async def aclose(self) -> None:
        """Close the list."""
        items, self._items, self._last = self._items, None, None
        if items is not None:
            await items.aclose()
