"""iModels with their changesets and extended data, derived from the seed when asked for."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from itwin_async.emulator._state import seed
from itwin_async.emulator._state.changesets import Changeset, seeded_changeset
from itwin_async.emulator._state.clock import first_date
from itwin_async.emulator._state.collection import Collection
from itwin_async.emulator._state.creation import Creation
from itwin_async.emulator._state.imodel_parts import (
    Briefcase,
    ChangesetGroup,
    NamedVersion,
    group_id,
    seeded_briefcases,
    seeded_groups,
    seeded_versions,
)
from itwin_async.emulator._state.locks import Locks
from itwin_async.emulator._state.seed import JSON, Size

_NAMES: Final = ("Substation", "Tunnel", "Terminal", "Viaduct", "Treatment Plant", "Depot")

_EXAMPLE_IMODEL: Final = "5e19bee0-3aea-4355-a9f0-c6df9989ee7d"
_EXAMPLE_TASK: Final = "db14f835-8d1c-4b56-9235-715ebd233814"
# The changeset ids of the documented samples, by their index.
_EXAMPLE_CHANGESETS: Final = {
    1: "78c09f3337370b26acabead1790d77b2a6ebc6ee",
    2: "a1ecbdc8c4f6173004f9f881914a57c5511a362b",
    255: "f7618612c572d7db8e3e6095d622d0d8aff22874",
    256: "1f2e04b666edce395e37a795e2231e995cbf8349",
}
_EXAMPLE_DATA: Final = seed.to_base64(seed.payload(("A.dgn", "B.dgn"), _EXAMPLE_TASK))


@dataclass(slots=True)
class IModel:
    """One iModel. ``number`` tells it from the others; ``pushed`` and ``written`` are new.

    The indexes of its changesets are 1, 2, 3, and so on: as many as ``size`` says are seeded, from
    ``since`` on, and those that were pushed follow them. ``thumbnail`` is one that was uploaded:
    its media type and its bytes.
    """

    number: int
    id: str
    itwin_id: str
    name: str
    description: str | None
    created: str
    size: Size = field(repr=False)
    since: datetime = field(repr=False)
    creator_id: str = ""
    extent: JSON | None = None
    containers: int = 0
    creation: Creation = field(default_factory=Creation)
    thumbnail: tuple[str, bytes] | None = field(default=None, repr=False)
    pushed: list[Changeset] = field(default_factory=list[Changeset], repr=False)
    written: dict[int, str] = field(default_factory=dict[int, str], repr=False)
    pending: Changeset | None = None  # created, and waiting for its file
    pending_until: float = 0.0  # by the platform's clock
    named_versions: Collection[NamedVersion] = field(init=False, repr=False)
    groups: Collection[ChangesetGroup] = field(init=False, repr=False)
    briefcases: Collection[Briefcase] = field(init=False, repr=False)
    locks: Locks = field(default_factory=Locks, repr=False)
    checkpoints: dict[int, str] = field(default_factory=dict[int, str], repr=False)
    last_briefcase: int = 0

    def __post_init__(self) -> None:
        number, seeded = self.size.seed, self._seeded_changesets
        self.named_versions = Collection(lambda: seeded_versions(number, self.number, seeded()))
        self.groups = Collection(lambda: seeded_groups(number, self.number, seeded()))
        self.briefcases = Collection(
            lambda: seeded_briefcases(self.number, self.created) if self.size.changesets else ()
        )

    def _seeded_changesets(self) -> Iterator[tuple[int, str, str]]:
        for index in range(1, self.size.changesets + 1):
            yield index, self.changeset_id(index), self._pushed_at(index)

    def _pushed_at(self, index: int) -> str:
        return seed.timestamp(_push_hour(self.number, index), 7, since=self.since)

    @property
    def changeset_count(self) -> int:
        """How many changesets it has."""
        return self.size.changesets + len(self.pushed)

    @property
    def last_pushed_at(self) -> str | None:
        """When its last changeset was pushed; None where it has none."""
        count = self.changeset_count
        return self.changeset(count).pushed_at if count else None

    def changeset(self, index: int) -> Changeset:
        """One changeset."""
        if index > self.size.changesets:
            return self.pushed[index - self.size.changesets - 1]
        return seeded_changeset(
            self.size.seed,
            self.number,
            index,
            id=self.changeset_id(index),
            parent_id=self.changeset_id(index - 1) if index > 1 else "",
            pushed_at=self._pushed_at(index),
            group_id=group_id(self.size.seed, self.number, index),
        )

    def changeset_id(self, index: int) -> str:
        """The id of one changeset."""
        if index > self.size.changesets:
            return self.changeset(index).id
        if self.number == 0 and index in _EXAMPLE_CHANGESETS:
            return _EXAMPLE_CHANGESETS[index]
        return seed.changeset_id(self.size.seed, self.number, index)

    def version_on(self, index: int) -> NamedVersion | None:
        """The named version of a changeset; of the baseline, which has index 0."""
        versions = self.named_versions.values()
        return next((version for version in versions if version.changeset_index == index), None)

    def checkpoint_at(self, index: int) -> int:
        """The index of the last checkpoint at or before a changeset; the baseline has one."""
        named = (version.changeset_index for version in self.named_versions.values())
        return max((other for other in named if other <= index), default=0)

    def look_at_checkpoint(self, index: int) -> str:
        """The state of a checkpoint. One that is being generated is ready at the next look."""
        state = self.checkpoints.get(index, "successful")
        if state == "scheduled":
            self.checkpoints[index] = "successful"
        return state

    def next_changeset_id(self) -> str:
        """An id for one more changeset."""
        return seed.changeset_id(self.size.seed, self.number, self.changeset_count + 1)

    def find_changeset(self, id_or_index: str) -> int | None:
        """The index of the changeset with this id, or with this index."""
        text, count = id_or_index.lower(), self.changeset_count
        if text.isascii() and text.isdigit() and len(text) < 40:
            return int(text) if 1 <= int(text) <= count else None
        ids = (index for index in range(1, count + 1) if self.changeset_id(index) == text)
        return next(ids, None)

    @property
    def _seeded_data(self) -> range:
        return range(1, self.size.changesets + 1, self.size.extended_data_every)

    def data_indexes(self) -> Sequence[int]:
        """The indexes of all changesets with extended data, in order."""
        seeded = self._seeded_data
        return sorted({*seeded, *self.written}) if self.written else seeded

    def has_data(self, index: int) -> bool:
        """Whether this changeset has extended data."""
        return index in self.written or index in self._seeded_data

    def write_data(self, index: int, data: str) -> None:
        """Give a changeset its extended data, as base64."""
        self.written[index] = data

    def data(self, index: int) -> str:
        """The extended data of a changeset, as base64."""
        data = self.written.get(index)
        if data is None and self.number == 0 and index <= 2:
            data = _EXAMPLE_DATA
        return data or seed.extended_data(self.size, self.number, index)


def _push_hour(imodel: int, index: int) -> int:
    return imodel * 3 + index * 5


def seed_imodels(
    size: Size, itwins: Mapping[str, JSON], now: datetime
) -> Iterator[tuple[str, IModel]]:
    """All iModels; they belong in turn to the iTwins that are no accounts.

    The newest of their dates is a day before ``now``.
    """
    owners = [id for id, itwin in itwins.items() if itwin["class"] != "Account"]
    newest = size.imodels - 1
    hours = _push_hour(newest, size.changesets) if size.changesets else newest
    since = first_date(now, seed.span(hours))
    for number in range(size.imodels):
        id = seed.guid(size.seed, "imodel", number)
        name = f"{_NAMES[number % len(_NAMES)]} {number}"
        if number == 0:
            id, name = _EXAMPLE_IMODEL, "Sun City Renewable-energy Plant"
        description = None if number % 5 == 4 else f"Model of {name}"
        owner, created = owners[number % len(owners)], seed.timestamp(number, 7, since=since)
        yield (
            id,
            IModel(
                number,
                id,
                owner,
                name,
                description,
                created,
                size,
                since,
                creator_id=seed.guid("user", number % 3),
                extent=_extent(number),
            ),
        )


def _extent(number: int) -> JSON:
    south, west = 36.0 + number % 20, -115.0 + number % 40
    return {
        "southWest": {"latitude": south, "longitude": west},
        "northEast": {"latitude": south + 0.25, "longitude": west + 0.25},
    }
