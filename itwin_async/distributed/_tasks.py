"""What a job runs on the workers: to find candidates, to measure, and to write parts."""

import asyncio
import tempfile
from collections.abc import AsyncIterable
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import msgspec

from itwin_async import ITwinError, ITwinSession, UnauthorizedError, merged
from itwin_async._aio.threads import in_thread
from itwin_async._core.redaction import one_line
from itwin_async._files.atomic import FileDigest
from itwin_async._rows.types import type_name
from itwin_async.distributed._destination import Destination
from itwin_async.distributed._manifest import bad_name, part_name
from itwin_async.distributed._part import PartWriter
from itwin_async.distributed._states import checkpoint_of, states_of_part
from itwin_async.distributed._workers import (
    Crawled,
    Target,
    fields_digest,
    is_worker_fault,
)
from itwin_async.export import export_extended_data
from itwin_async.sync._candidates import Candidate, CandidateFinder
from itwin_async.sync._checkpoint import Checkpoint
from itwin_async.sync._list_state import ListState
from itwin_async.sync._progress import Progress
from itwin_async.sync._scan import Scan, ScanStep
from itwin_async.sync._scope import Scope

_LOOKUPS: Final = 8  # iModels that are asked for at a time
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


async def find_candidates(
    itwin: ITwinSession, scope: Scope, checkpoint: str, settle: float
) -> tuple[list[Candidate], dict[str, bytes]]:
    """The iModels of a scope that may have something new, and the states of those that are gone."""
    known = str(Checkpoint(scope.digest, Checkpoint.parse(checkpoint).records))
    progress = Progress(itwin, scope.digest, known)
    found = await CandidateFinder(itwin, scope, progress, settle=settle, workers=_LOOKUPS).find()
    back = {candidate.imodel_id for candidate in found}
    gone: dict[str, bytes] = {}
    for imodel_id in progress.imodel_ids - back:
        state = progress.state(imodel_id)
        if state is not None and state.gone:
            gone[imodel_id] = state.encode()
    return found, gone


async def measure(
    itwin: ITwinSession, imodel_ids: list[str], settle: float
) -> list[tuple[int, Candidate]]:
    """The index of each iModel's last changeset, which estimates its entries; 0 if unknown.

    With it, when that changeset was pushed, and whether this is ``settle`` seconds ago.
    """
    errors: dict[str, ITwinError] = {}

    async def newest(imodel_id: str) -> tuple[int, Candidate]:
        changesets = itwin.imodels.list_changesets(
            imodel_id, order="desc", representation=True, page_size=1
        )
        try:
            async with aclosing(changesets.pages()) as pages:
                page = await anext(pages)
        except ITwinError as error:  # an iModel that fails is reported when it is crawled
            errors[imodel_id] = error
            return 0, Candidate(imodel_id)
        if not page.items:
            return 0, Candidate(imodel_id, settled=True)
        changeset, pushed = page.items[0], page.items[0].push_date_time
        if pushed is None:
            return changeset.index, Candidate(imodel_id)
        settled = page.date is not None and (page.date - pushed).total_seconds() >= settle
        microseconds = max(0, (pushed - _EPOCH) // timedelta(microseconds=1))
        return changeset.index, Candidate(imodel_id, microseconds, settled)

    found = await asyncio.gather(*map(newest, imodel_ids))
    if len(errors) == len(imodel_ids) and all(map(is_worker_fault, errors.values())):
        raise next(iter(errors.values()))
    return found


async def crawl(
    itwin: ITwinSession, imodels: list[Candidate], target: Target, workers: int
) -> Crawled:
    """Write the part of iModels that are read from the beginning.

    Raises if all of them failed, and the worker is at fault.
    """
    _check_fields(target)
    errors: dict[str, ITwinError] = {}
    with tempfile.TemporaryDirectory() as home:
        exported = await export_extended_data(
            itwin,
            [imodel.imodel_id for imodel in imodels],
            Path(home) / "part.parquet",
            target.data_type,
            resume=False,
            on_error=lambda imodel_id, error: errors.update({imodel_id: error}),
            workers=workers,
        )
        _check_worker(errors, len(imodels))
        whole = [imodel for imodel in imodels if imodel.imodel_id not in errors]
        states = await in_thread(
            states_of_part, exported.output, exported.bad_rows, whole, target.look_back
        )
        part, bad_part = await in_thread(_put, target, exported.output, exported.bad_rows)
    return _crawled(exported.rows, exported.bad, part, bad_part, states=states, errors=errors)


async def follow(
    itwin: ITwinSession, imodels: list[Candidate], since: str, target: Target, workers: int
) -> Crawled:
    """Write the part of what is new behind a checkpoint. Raises as `crawl` does."""
    _check_fields(target)
    start, errors = Checkpoint.parse(since), dict[str, ITwinError]()
    states: dict[str, ListState] = {}
    hidden: dict[str, str] = {}
    scans = [
        Scan(
            itwin,
            imodel,
            start.state(imodel.imodel_id),
            data_type=msgspec.Raw if target.data_type is None else target.data_type,
            look_back=target.look_back,
        )
        for imodel in imodels
    ]

    def note_error(scan: AsyncIterable[ScanStep], error: Exception) -> None:
        if not isinstance(error, ITwinError) or not isinstance(scan, Scan):
            raise error
        errors[scan.imodel_id] = error

    with tempfile.TemporaryDirectory() as home:
        part = PartWriter(Path(home), target.data_type)
        async with merged(scans, workers=workers, on_error=note_error) as steps:
            async for step in steps:
                if step.entry is not None:
                    await part.add(step.entry)
                elif step.state is not None:
                    states[step.imodel_id] = step.state
                elif not step.gone:  # what is gone is found by the next call
                    hidden[step.imodel_id] = "the token gives no access to it any more"
        _check_worker(errors, len(imodels))
        await part.finish()
        digests = await in_thread(
            _put,
            target,
            part.part if part.rows else None,
            part.bad_part if part.bad else None,
        )
    crawled = _crawled(part.rows, part.bad, *digests, states=states, errors=errors)
    crawled.failures.update(hidden)
    return crawled


def _check_fields(target: Target) -> None:
    if fields_digest(target.data_type) != target.fields:
        raise TypeError(
            f"{type_name(target.data_type)} has other fields on this worker than on the client: "
            "install the same versions there"
        )


def _check_worker(errors: dict[str, ITwinError], imodels: int) -> None:
    if len(errors) == imodels and all(map(is_worker_fault, errors.values())):
        raise next(iter(errors.values()))


def _put(
    target: Target, part: Path | None, bad: Path | None
) -> tuple[FileDigest | None, FileDigest | None]:
    """Store the files of a batch, the part last; remove those of an earlier run of it."""
    destination = Destination(target.root)
    digests: list[FileDigest | None] = []
    for path, name in (
        (bad, bad_name(target.run, target.key)),
        (part, part_name(target.run, target.key)),
    ):
        if path is None:
            destination.remove(name)
        digests.append(None if path is None else destination.put(target.run, path, name))
    return digests[1], digests[0]


def _crawled(
    rows: int,
    bad: int,
    part: FileDigest | None,
    bad_part: FileDigest | None,
    *,
    states: dict[str, ListState],
    errors: dict[str, ITwinError],
) -> Crawled:
    refused = [error for error in errors.values() if isinstance(error, UnauthorizedError)]
    return Crawled(
        rows,
        bad,
        part,
        bad_part,
        checkpoint_of(states),
        {imodel_id: one_line(str(error)) for imodel_id, error in errors.items()},
        refused[0] if refused else None,
    )
