"""Entries of extended data as the command line prints them."""

import msgspec

from itwin_async import ExtendedData, PayloadError


class EntryRow(msgspec.Struct):
    """An entry as a line of JSON."""

    imodel_id: str
    changeset_index: int
    changeset_id: str
    data: msgspec.Raw


def entry_row(entry: ExtendedData[msgspec.Raw]) -> EntryRow:
    """A row whose payload is what the platform sent, in one line; `PayloadError` if it is bad."""
    payload = bytes(entry.data)
    try:
        payload.decode()
    except UnicodeDecodeError:
        raise PayloadError(
            f"extended data of changeset {entry.changeset_index} ({entry.changeset_id}) "
            f"of iModel {entry.imodel_id}: its payload is not UTF-8"
        ) from None
    if b"\n" in payload or b"\r" in payload:
        payload = msgspec.json.format(payload, indent=-1)
    data = msgspec.Raw(payload)
    return EntryRow(entry.imodel_id, entry.changeset_index, entry.changeset_id, data)
