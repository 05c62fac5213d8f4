"""What is to be run: batches of iModels that are new, and of those in which something is."""

import logging
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from itwin_async._core.validation import normalize_id
from itwin_async.distributed._manifest import ANY_SCOPE, Batch, Manifest
from itwin_async.distributed._shares import RateShares, run_all
from itwin_async.distributed._tasks import find_candidates, measure
from itwin_async.sync._candidates import Candidate
from itwin_async.sync._checkpoint import Checkpoint
from itwin_async.sync._scope import Scope

_logger = logging.getLogger("itwin_async")
GIVEN: Final = ""  # the owner of iModels whose ids were given
_MAX_CHANGED: Final = 200  # iModels in a batch of those that are read again


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The arguments of `ingest_extended_data`; ``provider`` is the name of a function."""

    provider: str
    imodel_ids: list[str]
    itwin_ids: list[str]
    data_type: Any
    per_minute: int
    concurrency: int
    batch_entries: int
    base_url: str | None
    resume: bool
    max_idle: float
    look_back: int
    settle: float
    checkpoint: str | None

    @property
    def scope(self) -> Scope | None:
        """That of a change feed over the same iModels; None where there is no such feed."""
        if len(self.itwin_ids) == 1 and not self.imodel_ids:
            return Scope.of(self.itwin_ids[0], ())
        if self.imodel_ids and not self.itwin_ids:
            return Scope.of(None, self.imodel_ids)
        return None


def owner_of(scope: Scope) -> str:
    """The owner of the iModels of a scope."""
    return GIVEN if scope.itwin_id is None else scope.itwin_id


class Planner:
    """Adds to a manifest the batches that a call needs."""

    def __init__(self, manifest: Manifest, shares: RateShares, options: Options) -> None:
        self._manifest = manifest
        self._shares = shares
        self._options = options
        manifest.fold()
        self._complete = manifest.checkpoint()
        self._planned = {imodel_id for batch in manifest.batches for imodel_id in batch.imodels}
        self._pending = {
            imodel_id for batch in manifest.batches if not batch.done for imodel_id in batch.imodels
        }
        self._given = list(dict.fromkeys(map(normalize_id, options.imodel_ids)))

    async def plan(self) -> None:
        """Find the iModels with something new, and new iModels. Nothing else is asked for."""
        await self._plan_given()
        for itwin_id in dict.fromkeys(self._options.itwin_ids):
            await self._plan_itwin(itwin_id)
        batches = [batch for batch in self._manifest.batches if not batch.done]
        changed = sum(len(batch.imodels) for batch in batches if batch.since is not None)
        _logger.info(
            "%d batches are to be run: %d iModels from the beginning, %d with something new",
            len(batches),
            sum(len(batch.imodels) for batch in batches) - changed,
            changed,
        )

    async def _plan_given(self) -> None:
        known = [
            imodel_id
            for imodel_id in self._given
            if imodel_id not in self._pending and self._complete.state(imodel_id) is not None
        ]
        answers = await run_all(
            self._find_candidates(number, Scope(None, tuple(ids)), self._part(ids))
            for number, ids in enumerate(self._divided(known))
        )
        gone = {key: record for _, found in answers for key, record in found.items()}
        others = {
            key: record
            for key, record in self._gone(GIVEN).items()
            if key not in self._given  # as they were, for they were not asked for
        }
        self._keep_gone(GIVEN, {**others, **gone})
        self._add_changed(GIVEN, [candidate for changed, _ in answers for candidate in changed])
        await self._add_new(GIVEN, {key: None for key in self._given if self._is_new(key)})

    async def _plan_itwin(self, itwin_id: str) -> None:
        known = self._manifest.checkpoint(itwin_id)
        found, gone = await self._find_candidates(0, Scope(itwin_id, ()), known)
        self._keep_gone(itwin_id, gone)
        candidates = {item.imodel_id: item for item in found if item.imodel_id not in self._given}
        new = {key: item for key, item in candidates.items() if self._is_new(key)}
        self._add_changed(itwin_id, [item for key, item in candidates.items() if key not in new])
        await self._add_new(itwin_id, new)

    async def _find_candidates(
        self, share: int, scope: Scope, known: Checkpoint
    ) -> tuple[list[Candidate], dict[str, bytes]]:
        found: tuple[list[Candidate], dict[str, bytes]] = await self._shares.run_on_any(
            share, find_candidates, scope, str(known), self._options.settle
        )
        return found

    def _add_changed(self, owner: str, found: list[Candidate]) -> None:
        """Plan to read what is new in iModels of which earlier entries are in the destination."""
        changed = [candidate for candidate in found if self._may_have_new(candidate)]
        size = min(_MAX_CHANGED, max(1, math.ceil(len(changed) / len(self._shares))))
        for start in range(0, len(changed), size):
            candidates = {item.imodel_id: item for item in changed[start : start + size]}
            batch = Batch(list(candidates), owner, since=str(self._part(candidates)))
            self._add([batch], candidates)

    async def _add_new(self, owner: str, new: Mapping[str, Candidate | None]) -> None:
        """Plan to read iModels from the beginning, the largest first."""
        chunks = self._divided(list(new))
        measured = await run_all(
            self._shares.run_on_any(number, measure, ids, self._options.settle)
            for number, ids in enumerate(chunks)
        )
        sizes: dict[str, int] = {}
        candidates: dict[str, Candidate] = {}
        for size, candidate in (pair for found in measured for pair in found):
            sizes[candidate.imodel_id] = size
            candidates[candidate.imodel_id] = new[candidate.imodel_id] or candidate
        self._add(batches_of(sizes, self._options.batch_entries, owner), candidates)

    def _add(self, batches: list[Batch], candidates: dict[str, Candidate]) -> None:
        for batch in batches:
            batch.pushes = {
                imodel_id: (candidates[imodel_id].pushed, candidates[imodel_id].settled)
                for imodel_id in batch.imodels
            }
            self._planned.update(batch.imodels)
            self._pending.update(batch.imodels)
        self._manifest.batches.extend(batches)

    def _is_new(self, imodel_id: str) -> bool:
        return imodel_id not in self._planned and self._complete.state(imodel_id) is None

    def _may_have_new(self, candidate: Candidate) -> bool:
        """Whether an iModel changed that is not read again anyway: an owner knows its own alone."""
        state = self._complete.state(candidate.imodel_id)
        if candidate.imodel_id in self._pending or state is None:
            return False
        return state.may_have_new(candidate.pushed)

    def _part(self, imodel_ids: Iterable[str]) -> Checkpoint:
        """The checkpoint of some iModels."""
        records = self._complete.records
        return Checkpoint(ANY_SCOPE, {key: records[key] for key in imodel_ids})

    def _gone(self, owner: str) -> dict[str, bytes]:
        text = self._manifest.gone.get(owner)
        return {} if text is None else dict(Checkpoint.parse(text).records)

    def _keep_gone(self, owner: str, records: dict[str, bytes]) -> None:
        for imodel_id in sorted(records.keys() - self._gone(owner).keys()):
            _logger.warning("iModel %s is gone: its rows stay, and it is left out", imodel_id)
        gone = {**self._manifest.gone, owner: str(Checkpoint(ANY_SCOPE, records))}
        self._manifest.gone = {
            name: text for name, text in gone.items() if name != owner or records
        }

    def _divided(self, ids: list[str]) -> list[list[str]]:
        """In parts, one for each share; none of them is empty."""
        count = len(self._shares)
        return [part for number in range(count) if (part := ids[number::count])]


def batches_of(sizes: dict[str, int], entries: int, owner: str) -> list[Batch]:
    """Batches of so many entries, the largest iModels first."""
    batches: list[Batch] = []
    left = 0
    for imodel_id in sorted(sizes, key=lambda imodel_id: (-sizes[imodel_id], imodel_id)):
        if not batches or sizes[imodel_id] > left:
            batches.append(Batch([], owner))
            left = entries
        batches[-1].imodels.append(imodel_id)
        left -= sizes[imodel_id]
    return batches
