"""Changesets: the seeded ones, derived from the seed, and those that were pushed since."""

from dataclasses import dataclass, field
from typing import Final

from itwin_async.emulator._state import seed
from itwin_async.emulator._state.seed import JSON

DEFAULT_APPLICATION: Final[JSON] = {"id": "imodel-synchronizer", "name": "iModel Synchronizer"}


@dataclass(slots=True, kw_only=True)
class Changeset:
    """One changeset. Its file is in the storage, in the container of the iModel."""

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

    @property
    def file_name(self) -> str:
        """The name of its file in the storage."""
        return f"changesets/{self.id}.cs"


def seeded_changeset(
    seed_number: int,
    imodel: int,
    index: int,
    *,
    id: str,
    parent_id: str,
    pushed_at: str,
    group_id: str | None,
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
        group_id=group_id,
        synchronization_info={
            "taskId": seed.guid(seed_number, "task", imodel, index),
            "changedFiles": None,
        },
    )
