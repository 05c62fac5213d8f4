"""How far the lists of a part were read, in the encoding of a change feed's checkpoint."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import cast

import msgspec

from itwin_async._core.validation import normalize_id
from itwin_async._rows.entries import BadRow
from itwin_async.distributed._manifest import ANY_SCOPE
from itwin_async.export._arrow import PQ
from itwin_async.sync._candidates import Candidate
from itwin_async.sync._checkpoint import Checkpoint
from itwin_async.sync._list_state import ListState


def checkpoint_of(states: Mapping[str, ListState]) -> str:
    """The checkpoint of these states, by iModel."""
    records = {normalize_id(imodel_id): state.encode() for imodel_id, state in states.items()}
    return str(Checkpoint(ANY_SCOPE, records))


def states_of_part(
    part: Path, bad: Path | None, imodels: Iterable[Candidate], look_back: int
) -> dict[str, ListState]:
    """The states of lists that were read from beginning to end, by what is in their files."""
    indexes: defaultdict[str, list[int]] = defaultdict(list)
    with PQ.ParquetFile(part) as file:
        for number in range(file.num_row_groups):
            group = file.read_row_group(number, columns=["imodel_id", "changeset_index"])
            ids = cast("list[str]", group["imodel_id"].to_pylist())
            found = cast("list[int]", group["changeset_index"].to_pylist())
            for imodel_id, index in zip(ids, found, strict=True):
                indexes[imodel_id].append(index)
    if bad is not None:
        with bad.open("rb") as lines:
            for line in lines:
                row = msgspec.json.decode(line, type=BadRow)
                indexes[row.imodel_id].append(row.changeset_index)
    states: dict[str, ListState] = {}
    for imodel in imodels:
        known = sorted(indexes[imodel.imodel_id])
        window = known[-max(1, look_back) :]
        states[imodel.imodel_id] = ListState(
            len(known) - len(window), window, len(known), imodel.pushed, imodel.settled
        )
    return states
