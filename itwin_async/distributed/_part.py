"""The part of a batch as a worker writes it: rows in temporary files, then one Parquet file."""

from pathlib import Path
from typing import Any, Final

from itwin_async import ExtendedData, PayloadError
from itwin_async._aio.threads import in_thread
from itwin_async._files.atomic import SyncedFile
from itwin_async._rows.entries import BadRow, Row, bad_row, unfit_row
from itwin_async.export._arrow import ArrowFile
from itwin_async.export._journal import encode_line

_MAX_ROWS: Final = 65_536  # in memory
_MAX_BYTES: Final = 16 << 20


class PartWriter:
    """Writes entries to ``part.parquet`` in a directory, and bad ones to ``bad.jsonl``."""

    def __init__(self, home: Path, data_type: Any) -> None:
        self.part: Final = home / "part.parquet"
        self.bad_part: Final = home / "bad.jsonl"
        self.rows = self.bad = 0
        self._home = home
        self._form = ArrowFile(data_type, parquet=True)
        self._rows: list[Row] = []
        self._bad_rows: list[BadRow] = []
        self._size = 0
        self._pieces: list[Path] = []

    async def add(self, entry: ExtendedData[Any]) -> None:
        """Take an entry, and write to the disk what would become too much for the memory."""
        try:
            data, size = self._form.encode(entry)
        except PayloadError as error:
            self._bad_rows.append(bad_row(entry, error.message))
            size = len(self._bad_rows[-1].payload or b"")
        else:
            place = entry.imodel_id, entry.changeset_index, entry.changeset_id
            self._rows.append(Row(*place, data, size))
        self._size += size
        if self._size >= _MAX_BYTES or len(self._rows) + len(self._bad_rows) >= _MAX_ROWS:
            await in_thread(self._flush)

    async def finish(self) -> None:
        """Write the files. There is none without rows, and none of bad ones without those."""
        await in_thread(self._finish)

    def _flush(self) -> None:
        rows, bad = self._rows, self._bad_rows
        self._rows, self._bad_rows, self._size = [], [], 0
        if rows:
            self._pieces.append(self._home / f"{len(self._pieces)}.arrows")
            with SyncedFile(self._pieces[-1]) as piece:
                left_out = self._form.write_part(rows, piece)
            bad += [unfit_row(row, reason) for row, reason in left_out]
            self.rows += len(rows) - len(left_out)
        if bad:
            with self.bad_part.open("ab") as lines:
                lines.writelines(map(encode_line, bad))
            self.bad += len(bad)

    def _finish(self) -> None:
        self._flush()
        if self.rows:
            with SyncedFile(self.part) as output:
                for _ in self._form.join_parts(
                    None, (piece.read_bytes() for piece in self._pieces), output
                ):
                    pass
