"""Entries of extended data as the command line prints them."""

import msgspec

from itwin_async import ExtendedData
from itwin_async._rows.entries import json_text


class EntryRow(msgspec.Struct):
    """An entry as a line of JSON."""

    imodel_id: str
    changeset_index: int
    changeset_id: str
    data: msgspec.Raw


def entry_row(entry: ExtendedData[msgspec.Raw]) -> EntryRow:
    """A row whose payload is what the platform sent, in one line; `PayloadError` if it is bad."""
    data = msgspec.Raw(json_text(entry).encode())
    return EntryRow(entry.imodel_id, entry.changeset_index, entry.changeset_id, data)
