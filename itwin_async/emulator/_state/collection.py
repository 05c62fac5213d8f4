"""Records by id: seeded at the first look, changed by the operations that write."""

from collections.abc import Callable, Iterable, Iterator, MutableMapping, ValuesView
from typing import TypeVar

T = TypeVar("T")


class Collection(MutableMapping[str, T]):
    """Records by id, in the order in which lists show them.

    ``seed`` gives the first records with their ids; it runs when the collection is first used.
    Ids are GUIDs, which match in any case of letters, unless ``exact``.
    """

    def __init__(
        self, seed: Callable[[], Iterable[tuple[str, T]]] | None = None, *, exact: bool = False
    ) -> None:
        self._seed = seed
        self._exact = exact
        self._records: dict[str, T] = {}

    def _seeded(self) -> dict[str, T]:
        if self._seed is not None:
            seed, self._seed = self._seed, None
            self._records = dict(seed())
        return self._records

    def _key(self, id: str) -> str:
        return id if self._exact else id.lower()

    def __getitem__(self, id: str) -> T:
        return self._seeded()[self._key(id)]

    def __setitem__(self, id: str, record: T) -> None:
        self._seeded()[self._key(id)] = record

    def __delitem__(self, id: str) -> None:
        del self._seeded()[self._key(id)]

    def __iter__(self) -> Iterator[str]:
        return iter(self._seeded())

    def values(self) -> ValuesView[T]:
        """The records; the view of the base class would look up each of their ids."""
        return self._seeded().values()

    def __len__(self) -> int:
        return len(self._seeded())
