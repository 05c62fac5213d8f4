"""Entries of extended data as rows, and those that cannot be one."""

from datetime import datetime
from typing import Any

import msgspec

from itwin_async.errors import PayloadError
from itwin_async.imodels import Changeset, ExtendedData


class Row(msgspec.Struct, frozen=True):
    """An entry to be written; ``size`` in bytes is what it occupies in memory until then."""

    imodel_id: str
    changeset_index: int
    changeset_id: str
    data: Any
    size: int
    changeset: Changeset | None = None  # where it was asked for


class BadRow(msgspec.Struct, frozen=True):
    """An entry that cannot be a row, and why.

    ``payload`` is the JSON as it came, where there is one (base64 in files); else ``data`` is what
    came in its place.
    """

    imodel_id: str
    changeset_index: int
    changeset_id: str
    reason: str
    payload: bytes | None
    data: Any = None


def changeset_values(
    changeset: Changeset | None,
) -> tuple[datetime | None, str | None, tuple[str, ...] | None]:
    """Push date, task and changed files of a changeset; None for what is not known."""
    if changeset is None:
        return None, None, None
    run = changeset.synchronization_info
    if run is None:
        return changeset.push_date_time, None, None
    return changeset.push_date_time, run.task_id, run.changed_files


def json_text(entry: ExtendedData[Any]) -> str:
    """The payload as it came, in one line; `PayloadError` if it is bad."""
    _ = entry.data  # raises where it does not decode
    try:
        return one_line_json(entry.payload)
    except ValueError as error:
        raise unfit(entry, str(error)) from None


def one_line_json(payload: bytes) -> str:
    """A payload, which is JSON, as text in one line; `ValueError` if it is not UTF-8."""
    if b"\n" in payload or b"\r" in payload:
        payload = msgspec.json.format(payload, indent=-1)
    try:
        return payload.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"its payload is not UTF-8: {error.reason}") from None


def unfit(entry: ExtendedData[Any] | BadRow, reason: str) -> PayloadError:
    """The error for a payload that was decoded, and still cannot be written."""
    error = PayloadError(
        f"extended data of changeset {entry.changeset_index} of iModel {entry.imodel_id}: {reason}"
    )
    error.imodel_id, error.changeset_id = entry.imodel_id, entry.changeset_id
    error.changeset_index = entry.changeset_index
    return error


def bad_row(entry: ExtendedData[Any], reason: str) -> BadRow:
    """The bad row for an entry that cannot be written."""
    payload: bytes | None = None
    data: Any = None
    try:
        payload = entry.payload
    except PayloadError as error:
        data = error.received
    return BadRow(entry.imodel_id, entry.changeset_index, entry.changeset_id, reason, payload, data)


def unfit_row(row: Row, reason: str) -> BadRow:
    """The bad row for a row that its columns cannot hold."""
    payload = row.data if isinstance(row.data, bytes) else row.data.encode()
    return BadRow(row.imodel_id, row.changeset_index, row.changeset_id, reason, payload)
