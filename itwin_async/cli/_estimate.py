"""``itwin-async extended-data export --dry-run``: what an export would cost in requests."""

from collections.abc import AsyncIterator, Callable
from datetime import datetime

import msgspec

from itwin_async import ITwinError
from itwin_async._aio.workers import run_workers
from itwin_async._rows.changesets import first_index_since
from itwin_async.cli._meter import CommandSession, Meter
from itwin_async.cli._progress import progress


class Estimate(msgspec.Struct):
    """What an export would read: at most so many ``requests``, retries aside.

    ``asked`` is what the estimate has cost: the lists of iModels, which the export reads as well,
    and a request for each iModel.
    """

    imodels: int = 0
    changesets: int = 0
    requests: int = 0
    asked: int = 0


async def estimate_export(
    session: CommandSession,
    imodel_ids: AsyncIterator[str],
    *,
    since: int | datetime | None,
    adds: bool,
    changesets: bool,
    workers: int,
    page_size: int,
    on_error: Callable[[str, ITwinError], None] | None,
) -> Estimate:
    """Count the changesets of iModels, each of which has at most one entry in its list.

    With ``adds`` the export adds to an earlier one, whose entries it does not read again.
    """
    found = Estimate()
    before = session.stats.requests
    meter = Meter("changesets", parts="iModels")
    with progress(session, "estimate", meter):
        ids = list(dict.fromkeys([imodel_id async for imodel_id in imodel_ids]))
        found.requests = session.stats.requests - before
        meter.total = len(ids)
        waiting = iter(ids)

        async def work() -> None:
            for imodel_id in waiting:
                count, read = await _count(imodel_id)
                found.imodels += 1
                found.changesets += count
                found.requests += max(1, -(-read // page_size))
                if changesets:
                    found.requests += -(-count // 1_000)
                meter.count, meter.done = found.changesets, found.imodels

        async def _count(imodel_id: str) -> tuple[int, int]:
            """Changesets to export, and entries to read for that."""
            last = session.imodels.list_changesets(imodel_id, order="desc", page_size=1)
            try:
                newest = await last.first()
            except ITwinError as error:
                if on_error is None:
                    raise
                on_error(imodel_id, error)
                return 0, 0
            if newest is None:
                return 0, 0
            if isinstance(since, int | None):
                count = max(0, newest.index - (since or 0))
                return count, count if adds else newest.index
            first = await first_index_since(session.imodels, imodel_id, since)
            count = 0 if first is None else newest.index - first + 1
            found.requests += max(1, -(-count // 1_000))  # the newest changesets
            return count, newest.index if count else 0

        await run_workers(workers, work)
    found.asked = session.stats.requests - before
    return found
