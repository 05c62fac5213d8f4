"""IModels with their changesets and extended data, derived from the seed when asked for."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from itwin_async.emulator._state import seed
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
    """One iModel. ``number`` is its place in the seeded data; ``pushed`` and ``written`` are new.

    The indexes of its changesets are 1, 2, 3, and so on.
    """

    number: int
    id: str
    itwin_id: str
    name: str
    description: str | None
    created: str
    size: Size = field(repr=False)
    pushed: int = 0
    written: dict[int, str] = field(default_factory=dict[int, str], repr=False)

    @property
    def changeset_count(self) -> int:
        """How many changesets it has."""
        return self.size.changesets + self.pushed

    def push_changeset(self) -> int:
        """Add a changeset without extended data, and give its index."""
        self.pushed += 1
        return self.changeset_count

    def changeset_id(self, index: int) -> str:
        """The id of one changeset."""
        if self.number == 0 and index in _EXAMPLE_CHANGESETS:
            return _EXAMPLE_CHANGESETS[index]
        return seed.changeset_id(self.size.seed, self.number, index)

    def find_changeset(self, id_or_index: str) -> int | None:
        """The index of the changeset with this id, or with this index."""
        text, count = id_or_index.lower(), self.changeset_count
        if text.isascii() and text.isdigit() and len(text) < 40:
            return int(text) if 1 <= int(text) <= count else None
        ids = (index for index in range(1, count + 1) if self.changeset_id(index) == text)
        return next(ids, None)

    def pushed_at(self, index: int) -> str:
        """When a changeset was pushed."""
        return seed.timestamp(self.number * 3 + index * 5, 7)

    @property
    def _seeded_data(self) -> range:
        return range(1, self.size.changesets + 1, self.size.extended_data_every)

    def data_indexes(self) -> Sequence[int]:
        """The indexes of all changesets with extended data, in order."""
        seeded = self._seeded_data
        return sorted([*seeded, *self.written]) if self.written else seeded

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


def seed_imodels(size: Size, itwins: Mapping[str, JSON]) -> Iterator[tuple[str, IModel]]:
    """All iModels; they belong in turn to the iTwins that are no accounts."""
    owners = [id for id, itwin in itwins.items() if itwin["class"] != "Account"]
    for number in range(size.imodels):
        id = seed.guid(size.seed, "imodel", number)
        name = f"{_NAMES[number % len(_NAMES)]} {number}"
        if number == 0:
            id, name = _EXAMPLE_IMODEL, "Sun City Renewable-energy Plant"
        description = None if number % 5 == 4 else f"Model of {name}"
        owner, created = owners[number % len(owners)], seed.timestamp(number, 7)
        yield id, IModel(number, id, owner, name, description, created, size)
