"""All records, and the least that each can be."""

from typing import Any

import msgspec

import itwin_async
from itwin_async import Operation
from itwin_async._core.records import Record

PUBLIC = [getattr(itwin_async, name) for name in itwin_async.__all__]
RECORDS = [kind for kind in PUBLIC if isinstance(kind, type) and issubclass(kind, Record)]
LEAST = {
    "id": "i", "name": "n", "number": "1.0.0", "index": 1, "latitude": 1.0, "longitude": 2.0,
    "changeset_index": 1, "briefcase_id": 2, "lock_level": "shared",
}  # fmt: skip


def decode(kind: Any, fields: Any) -> Any:
    """As an answer is decoded."""
    return Operation("GET", "/x", kind).decode(msgspec.json.encode(fields))


def least(kind: Any) -> dict[str, Any]:
    """The fewest fields a record can have."""
    fields = {}
    for item in msgspec.structs.fields(kind):
        if item.required:
            fields[item.encode_name] = LEAST.get(item.name) or least(item.type)
    return fields
