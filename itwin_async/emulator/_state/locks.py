"""The locks of an iModel: which briefcase holds which objects, and how strongly."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from itwin_async.emulator._state.seed import JSON

LEVELS: Final = ("none", "shared", "exclusive")
RELEASE_CHUNK: Final = 100  # objects; how many the platform releases at once is not documented


class LocksRefusedError(Exception):
    """The locks cannot be changed so. ``members`` are what the error says beyond its code."""

    def __init__(self, code: str, message: str, **members: object) -> None:
        super().__init__(code)
        self.code = code
        self.message = message
        self.members: JSON = members


@dataclass(slots=True)
class Locks:
    """Who holds which object, and when objects were released last."""

    held: dict[str, dict[int, str]] = field(default_factory=dict[str, dict[int, str]])
    released: dict[str, tuple[int, str]] = field(default_factory=dict[str, tuple[int, str]])

    def of(self, briefcase: int) -> dict[str, str]:
        """The objects that a briefcase holds, with their level."""
        return {id: owners[briefcase] for id, owners in self.held.items() if briefcase in owners}

    def briefcases(self) -> list[int]:
        """The briefcases that hold anything, in order."""
        return sorted({owner for owners in self.held.values() for owner in owners})

    def change(self, briefcase: int, wanted: Mapping[str, str], index: int) -> None:
        """Lock and release objects, all of them or none."""
        taken = {id: level for id, level in wanted.items() if level != "none"}
        released = [id for id in wanted if id not in taken]
        self._check_released(briefcase, released)
        self._check_taken(briefcase, taken, index)
        for id, level in taken.items():
            self.held.setdefault(id, {})[briefcase] = level
        self.release(briefcase, released, index)

    def release(self, briefcase: int, ids: Iterable[str], index: int) -> None:
        """Release objects, as of this changeset."""
        for id in ids:
            owners = self.held[id]
            self.released[id] = index, owners.pop(briefcase)
            if not owners:
                del self.held[id]

    def _check_released(self, briefcase: int, ids: Iterable[str]) -> None:
        for id in ids:
            owners = self.held.get(id)
            if owners is None:
                raise LocksRefusedError("LockNotFound", "Requested Lock(s) is not available.")
            if briefcase not in owners:
                message = "Lock(s) is owned by another Briefcase."
                raise LocksRefusedError("LockOwnedByAnotherBriefcase", message)

    def _check_taken(self, briefcase: int, taken: Mapping[str, str], index: int) -> None:
        conflicts: list[JSON] = []
        for id, level in taken.items():
            others = {
                owner: held for owner, held in self.held.get(id, {}).items() if owner != briefcase
            }
            against = [owner for owner, held in others.items() if "exclusive" in {level, held}]
            if against:
                conflicts.append(
                    {"objectId": id, "lockLevel": others[against[0]], "briefcaseIds": against}
                )
        if conflicts:
            message = "Lock(s) is owned by another Briefcase."
            raise LocksRefusedError("ConflictWithAnotherUser", message, conflictingLocks=conflicts)
        newer = [id for id in taken if self.released.get(id, (0, ""))[0] > index]
        if newer:
            message = "One or more objects have been locked in a newer Changeset."
            raise LocksRefusedError("NewerChangesExist", message, objectIds=newer)
