"""``itwin-async extended-data export --dry-run``: what an export would cost in requests."""

from collections.abc import AsyncIterator, Callable

import msgspec

from itwin_async import ITwinError
from itwin_async._aio.workers import run_workers
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
    since: int | None,
    changesets: bool,
    workers: int,
    page_size: int,
    on_error: Callable[[str, ITwinError], None] | None,
) -> Estimate:
    """Count the changesets of iModels, each of which has at most one entry in its list."""
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
                count = await _count(imodel_id)
                found.imodels += 1
                found.changesets += count
                found.requests += max(1, -(-count // page_size))
                if changesets:
                    found.requests += -(-count // 1_000)
                meter.count, meter.done = found.changesets, found.imodels

        async def _count(imodel_id: str) -> int:
            last = session.imodels.list_changesets(imodel_id, order="desc", page_size=1)
            try:
                newest = await last.first()
            except ITwinError as error:
                if on_error is None:
                    raise
                on_error(imodel_id, error)
                return 0
            return 0 if newest is None else max(0, newest.index - (since or 0))

        await run_workers(workers, work)
    found.asked = session.stats.requests - before
    return found
