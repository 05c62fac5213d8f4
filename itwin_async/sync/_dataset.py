"""A data set of Parquet files: what was committed to it, and the commit of further rows.

Everything here blocks, and is called from threads, one call at a time.
"""

import logging
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import is_dataclass
from functools import reduce
from typing import Any, Final
from urllib.parse import quote, unquote

import msgspec

from itwin_async._core.validation import normalize_id
from itwin_async._rows.arrow import ExtendedDataColumns
from itwin_async._rows.columns import PA
from itwin_async._rows.entries import BadRow, unfit_row
from itwin_async._rows.entries import Row as EncodedRow
from itwin_async.sync._checkpoint import Checkpoint, part_of
from itwin_async.sync._parts import (
    Footer,
    Part,
    conform,
    encode_part,
    merged_schema,
    parse_name,
    part_name,
    read_part,
    read_table,
)
from itwin_async.sync._sink import Row
from itwin_async.sync._storage import Storage

_logger = logging.getLogger("itwin_async")
# A last part below all three is replaced by a longer one; other rows begin a part of their own.
SMALL_ROWS: Final = 8_192
SMALL_BYTES: Final = 8 << 20
SMALL_GROUPS: Final = 32
HINT_SECONDS: Final = 5.0
_READERS: Final = 16  # of footers at a time
_HINT: Final = "checkpoint"
_BAD: Final = ".bad.jsonl"


class Dataset:
    """The parts in a storage that was claimed."""

    def __init__(self, storage: Storage, data_type: Any) -> None:
        self.data_type: Any = data_type
        self._storage = storage
        self._numbers: dict[str, list[int]] = {}  # of the parts of an iModel, ascending
        self._last: dict[str, Part] = {}  # part of an iModel
        self._schema: Any = None  # of all parts, once rows have shown theirs
        self._columns: tuple[Any, bool, ExtendedDataColumns] | None = None
        self._hint: str | None = None  # the whole checkpoint, not stored yet
        self._hint_at = 0.0

    # Opening

    def load(self) -> None:
        """Find what was committed, and remove what was not.

        Raises `ValueError` for a directory with files that are no sync's, and `OSError`.
        """
        others: list[str] = []
        for name in self._storage.names():
            if (parsed := parse_name(name)) is None:
                others.append(name)
            else:
                self._numbers.setdefault(parsed[0], []).append(parsed[1])
        for name in others:
            if name.endswith(".parquet") or not self._numbers:
                raise ValueError(
                    f"{self._storage.label} holds {name}, which no sync wrote: choose a directory "
                    "of its own for a data set"
                )
            _logger.warning("%s holds %r, which is no part of the data set: readers of the whole "
                            "directory may stumble on it", self._storage.label, name)  # fmt: skip
        for numbers in self._numbers.values():
            numbers.sort()
        names = [part_name(imodel_id, found[-1]) for imodel_id, found in self._numbers.items()]
        with ThreadPoolExecutor(_READERS) as threads:
            for part in threads.map(self._read, names):
                self._last[part.footer.imodel_id] = part
        self._remove_uncommitted_bad_rows()

    def _read(self, name: str) -> Part:
        with self._storage.open(name) as file:
            return read_part(name, file)

    def _remove_uncommitted_bad_rows(self) -> None:
        for name in self._storage.names_aside():
            if not name.endswith(_BAD):
                continue
            last = self._last.get(unquote(name.removesuffix(_BAD)))
            committed = 0 if last is None else last.footer.bad_bytes
            lines = self._storage.read_aside(name) or b""
            if not committed:
                self._storage.remove_aside(name)
            elif len(lines) > committed:
                self._storage.write_aside(name, lines[:committed])

    def checkpoint(self) -> str | None:
        """What was committed. The footers decide; of the rest the stored checkpoint may know more.

        That is which iModels have no rows, and which were scanned since their last row.
        """
        parts = [Checkpoint.parse(part.footer.checkpoint) for part in self._last.values()]
        hint: Checkpoint | None = None
        with suppress(ValueError):  # missing or damaged: it costs requests
            hint = Checkpoint.parse((self._storage.read_aside(_HINT) or b"").decode())
        if hint is None or (parts and hint.scope != parts[0].scope):
            return str(parts[0].combined(parts[1:])) if parts else None
        rows: dict[str, int] = {}
        for part in parts:
            for imodel_id in part.imodel_ids:
                state = part.state(imodel_id)
                rows[imodel_id] = 0 if state is None else state.rows
        kept = {
            imodel_id: record
            for imodel_id, record in hint.records.items()
            # Files that were taken away are read again.
            if (state := hint.state(imodel_id)) is not None and state.rows == rows.get(imodel_id, 0)
        }
        return str(Checkpoint(hint.scope, kept).combined(parts))

    # Writing

    def write(self, rows: Sequence[Row], checkpoint: str) -> int | None:
        """Commit rows of one iModel with the part of the checkpoint that is theirs.

        Returns how many rows that were not bad could not be stored, and were put aside.
        """
        if not self._storage.is_claimed():
            raise RuntimeError(f"another sync writes to {self._storage.label} by now")
        put_aside = self._commit(rows, checkpoint) if rows else 0
        self._hint = checkpoint
        if time.monotonic() - self._hint_at >= HINT_SECONDS:
            self.save_hint()
        return put_aside or None

    def save_hint(self) -> None:
        """Store the whole checkpoint, which is only a hint: losing it costs requests."""
        hint, self._hint = self._hint, None
        if hint is not None:
            self._storage.write_aside(_HINT, hint.encode())
            self._hint_at = time.monotonic()

    def _commit(self, rows: Sequence[Row], checkpoint: str) -> int:
        imodel_id = normalize_id(rows[0].imodel_id)
        table, bad = self._table(rows)
        last = self._last.get(imodel_id)
        number = 1 if last is None else last.number + 1
        before = b""
        if last is not None and self._storage.can_replace and _is_small(last):
            number = last.number
            with self._storage.open(last.name) as file:
                before = file.read()
        bad_bytes = 0 if last is None else last.footer.bad_bytes
        if bad:  # before the commit, which says how much of them counts
            bad_bytes = self._store_bad_rows(imodel_id, bad, bad_bytes)
        footer = Footer(
            imodel_id=imodel_id, checkpoint=part_of(checkpoint, imodel_id), bad_bytes=bad_bytes
        )
        name = part_name(imodel_id, number)
        data = encode_part(table, footer, longer_than=before)
        self._storage.commit(name, data)
        numbers = self._numbers.setdefault(imodel_id, [])
        if number not in numbers:
            numbers.append(number)
        self._last[imodel_id] = read_part(name, PA.BufferReader(data))
        return len(bad) - sum(row.error is not None for row in rows)

    def _store_bad_rows(self, imodel_id: str, bad: Iterable[BadRow], committed: int) -> int:
        name = f"{quote(imodel_id, safe='')}{_BAD}"
        lines = (self._storage.read_aside(name) or b"")[:committed]
        lines += b"".join(msgspec.json.encode(row) + b"\n" for row in bad)
        self._storage.write_aside(name, lines)
        return len(lines)

    def _table(self, rows: Sequence[Row]) -> tuple[Any, list[BadRow]]:
        """The rows as a table, and those that cannot be in it."""
        columns = self._columns_of(rows)
        bad: list[BadRow] = []
        good: list[EncodedRow] = []
        for row in rows:
            if row.error is not None or row.payload is None:
                bad.append(_bad_row(row, row.error or "it has no payload"))
                continue
            try:
                data, size = columns.encode_payload(row.data, row.payload)
            except ValueError as error:
                bad.append(_bad_row(row, str(error)))
            else:
                good.append(
                    EncodedRow(
                        row.imodel_id,
                        row.changeset_index,
                        row.changeset_id,
                        data,
                        size,
                        row.changeset,
                    )
                )
        left_out: list[tuple[EncodedRow, str]] = []
        table = PA.Table.from_batches([columns.batch(good, left_out)])
        bad += [unfit_row(row, reason) for row, reason in left_out]
        self._evolve(table.schema)
        return conform(table, self._schema), bad

    def _columns_of(self, rows: Sequence[Row]) -> ExtendedDataColumns:
        data_type = self.data_type
        if data_type is None:
            first: object = next((row.data for row in rows if row.error is None), None)
            if isinstance(first, msgspec.Struct) or is_dataclass(first):
                data_type = type(first)
        changesets = any(row.changeset is not None for row in rows)
        if self._columns is None or self._columns[:2] != (data_type, changesets):
            columns = ExtendedDataColumns(data_type, changesets=changesets)
            self._columns = data_type, changesets, columns
        return self._columns[2]

    def _evolve(self, wanted: Any) -> None:
        """Give all parts the columns that rows have by now, one part after the other.

        The last part of an iModel comes last, so that a run that was killed shows in it.
        """
        if self._schema is None:
            known = [part.schema for part in self._last.values()]
        else:
            known = [self._schema]  # which all parts have since rows have shown theirs
        try:
            schema = reduce(merged_schema, [*known, wanted])
        except ValueError as error:
            raise ValueError(
                f"{error}: give the data_type that {self._storage.label} was made with, or one "
                "that only has more fields, or choose another directory"
            ) from None
        if self._schema is not None and schema.equals(self._schema):
            return
        self._schema = schema
        for imodel_id, last in self._last.items():
            if last.schema.equals(self._schema):
                continue
            for number in self._numbers[imodel_id]:
                self._rewrite(part_name(imodel_id, number))
            self._last[imodel_id] = msgspec.structs.replace(last, schema=self._schema)

    def _rewrite(self, name: str) -> None:
        with self._storage.open(name) as file:
            part = read_part(name, file)
            if part.schema.equals(self._schema):
                return
            table = conform(read_table(file), self._schema)
            file.seek(0)
            before = file.read()
        data = encode_part(table, part.footer, longer_than=before, with_its_rows=False)
        self._storage.commit(name, data)


def _is_small(part: Part) -> bool:
    return part.rows < SMALL_ROWS and part.size < SMALL_BYTES and part.groups < SMALL_GROUPS


def _bad_row(row: Row, reason: str) -> BadRow:
    return BadRow(
        row.imodel_id, row.changeset_index, row.changeset_id, reason, row.payload, row.received
    )
