"""What is followed: the iModels of an iTwin, or some iModels."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self
from uuid import UUID

from itwin_async._core.validation import Id, as_sent, normalize_id, quote_segment
from itwin_async.sync._checkpoint import scope_of


@dataclass(frozen=True, slots=True)
class Scope:
    """An iTwin, or the ids of iModels."""

    itwin_id: str | None
    imodel_ids: tuple[str, ...]

    @classmethod
    def of(cls, itwin_id: Id | None, imodel_ids: Id | Iterable[Id]) -> Self:
        """Exactly one of the two; `TypeError` or `ValueError` for the rest."""
        ids = (imodel_ids,) if isinstance(imodel_ids, str | UUID) else tuple(imodel_ids)
        if (itwin_id is None) == (not ids):
            raise ValueError("exactly one of itwin_id and imodel_ids must be given")
        if itwin_id is not None:
            quote_segment("itwin_id", itwin_id)
        for imodel_id in ids:
            quote_segment("imodel_ids", imodel_id)
        return cls(
            None if itwin_id is None else as_sent(itwin_id),
            tuple(dict.fromkeys(map(normalize_id, ids))),
        )

    @property
    def digest(self) -> bytes:
        """What its checkpoints belong to."""
        return scope_of(itwin_id=self.itwin_id, imodel_ids=self.imodel_ids)
