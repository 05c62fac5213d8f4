"""Changesets: the seeded ones, derived from the seed, and those that were pushed since."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from itwin_async.emulator._state import seed
from itwin_async.emulator._state.seed import JSON

_BLOCK: Final = 1 << 16  # bytes
DEFAULT_APPLICATION: Final[JSON] = {"id": "imodel-synchronizer", "name": "iModel Synchronizer"}


@dataclass(slots=True, kw_only=True)
class Changeset:
    """One changeset. ``content`` is its file; None where its bytes are derived from its id."""

    index: int
    id: str
    parent_id: str
    pushed_at: str
    creator_id: str
    file_size: int
    description: str | None = None
    state: str = "fileUploaded"
    containing_changes: int = 0
    briefcase_id: int = 2
    group_id: str | None = None
    application: JSON | None = field(default_factory=DEFAULT_APPLICATION.copy)
    synchronization_info: JSON | None = None
    content: bytes | None = field(default=None, repr=False)

    def read(self, start: int, stop: int) -> Iterator[bytes]:
        """The bytes of its file from ``start`` to ``stop``, in pieces."""
        if self.content is not None:
            yield self.content[start:stop]
            return
        for number in range(start // _BLOCK, -(-stop // _BLOCK)):
            begin = number * _BLOCK
            name = f"{self.id}\x1f{number}".encode()
            block = hashlib.shake_128(name).digest(min(_BLOCK, self.file_size - begin))
            yield block[max(start - begin, 0) : stop - begin]


def seeded_changeset(
    seed_number: int, imodel: int, index: int, *, id: str, parent_id: str, pushed_at: str
) -> Changeset:
    """A changeset of the seeded data."""
    # The description of the documented sample does not fit its index.
    shown_index = 15 if imodel == 0 and index == 256 else index
    return Changeset(
        index=index,
        id=id,
        parent_id=parent_id,
        pushed_at=pushed_at,
        creator_id=seed.guid("user", index % 3),
        file_size=1024 + seed.number(100_000, imodel, index),
        description=None if index % 7 == 0 else f"Changeset {shown_index}",
        containing_changes=(0, 4, 1, 12)[index % 4],
        briefcase_id=2 + index % 5,
        synchronization_info={
            "taskId": seed.guid(seed_number, "task", imodel, index),
            "changedFiles": None,
        },
    )
