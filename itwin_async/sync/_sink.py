"""Where a sync writes: the `Sink` protocol, and its rows."""

from collections.abc import Sequence
from types import TracebackType
from typing import Any, Protocol

import msgspec

from itwin_async import Changeset


class Row(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An entry of extended data to be stored.

    ``data`` is the payload as the ``data_type`` that was asked for, a dict without one, and
    ``payload`` its JSON as bytes. An entry whose payload is bad has the reason in ``error``, and
    None as ``data``; ``payload`` is what could be read of it, else None, and ``received`` is what
    came in place of base64. ``changeset`` is there where it was asked for.
    """

    imodel_id: str
    changeset_index: int
    changeset_id: str
    data: Any
    payload: bytes | None
    error: str | None = None
    received: Any = None
    changeset: Changeset | None = None


class Sink(Protocol):
    """Where `sync_extended_data` stores rows, and how far it came, in one step.

    A sink is entered and left by `sync_extended_data`. Nothing is written at the same time: the
    next call begins when the last one has ended.
    """

    async def __aenter__(self) -> object:
        """Open it, and make sure that no other sync writes to the same place."""
        ...

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> object:
        """Close it; what was not committed may be lost."""
        ...

    async def checkpoint(self) -> str | None:
        """The checkpoint that was committed with the last rows; None where nothing was yet."""
        ...

    async def write(self, rows: Sequence[Row], checkpoint: str, /) -> int | None:
        """Commit the rows and the checkpoint: both or neither, also when this is cancelled.

        All rows are of one iModel, by ascending changeset index. Without rows only the checkpoint
        has moved: a sink may skip it, and the next sync then scans some iModels again. Returns
        how many of the rows that were not bad already could not be stored as they are and were put
        aside; None for none.
        """
        ...
