"""Feeds, and what the emulated platform has to give."""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

from itwin_async import ITwinSession, Retry
from itwin_async.emulator import Emulator
from itwin_async.sync import ChangeFeed

Key = tuple[str, int]
DATA = "list_extended_data"
IMODELS = "list_imodels"


@asynccontextmanager
async def platform(**options: Any) -> AsyncIterator[tuple[Emulator, ITwinSession]]:
    """A small platform, and a session with it."""
    options = {"itwins": 3, "imodels": 6, "changesets": 25, "extensions": 3, "rows": 0} | options
    retry = Retry(base=0.001, cap=0.002)
    async with (
        Emulator(**options) as emulator,
        ITwinSession(emulator.credentials, base_url=emulator.url, retry=retry) as itwin,
    ):
        yield emulator, itwin


async def project(itwin: ITwinSession) -> str:
    """The iTwin that has the iModels."""
    found = await itwin.itwins.list_itwins(sub_class="Project").first()
    assert found is not None
    return found.id


async def imodels_of(itwin: ITwinSession, itwin_id: str) -> list[str]:
    """Its iModels."""
    return [imodel.id async for imodel in itwin.imodels.list_imodels(itwin_id)]


def there(emulator: Emulator, imodel_ids: Iterable[str]) -> list[Key]:
    """The entries that the platform has now."""
    imodels = emulator._state.imodels
    return sorted(
        (imodel_id, index)
        for imodel_id in imodel_ids
        if imodel_id in imodels
        for index in imodels[imodel_id].data_indexes()
    )


async def keys(feed: ChangeFeed[Any]) -> list[Key]:
    """Its entries, sorted, for order between iModels is that of arrival."""
    return sorted([(entry.imodel_id, entry.changeset_index) async for entry in feed])


async def one_pass(
    itwin: ITwinSession, checkpoint: str | None = None, **options: Any
) -> tuple[list[Key], str]:
    """What a feed gives in one pass, and the checkpoint behind it."""
    async with ChangeFeed(itwin, checkpoint=checkpoint, every=None, **options) as feed:
        return await keys(feed), feed.checkpoint


def sent(emulator: Emulator) -> dict[str, int]:
    """How many requests each operation got since the last call."""
    counts: dict[str, int] = {}
    for request in emulator.requests:
        if request.operation:
            counts[request.operation] = counts.get(request.operation, 0) + 1
    emulator.requests.clear()
    counts.pop("token", None)
    return counts
