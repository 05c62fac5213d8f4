"""What tells a type from another one of the same name."""

import hashlib
from typing import Any, Final, cast

import msgspec

# Words for readers: a type whose docstring was changed is the same.
_PROSE: Final = ("title", "description")


def type_name(data_type: Any) -> str:
    """The name of a type, with its module."""
    if isinstance(data_type, type):
        return f"{data_type.__module__}.{data_type.__qualname__}"
    return repr(data_type)


def fields_digest(data_type: Any) -> str:
    """A digest of the names, types and defaults of a type's fields, in their order.

    Empty for None, and for a type that JSON Schema cannot describe.
    """
    if data_type is None:
        return ""
    try:
        schema = msgspec.json.schema(data_type)
    except (TypeError, ValueError):
        return ""
    return hashlib.sha256(msgspec.json.encode(_without_prose(schema))).hexdigest()[:16]


def _without_prose(schema: object) -> object:
    if isinstance(schema, list):
        return [_without_prose(item) for item in cast("list[object]", schema)]
    if not isinstance(schema, dict):
        return schema
    return {
        key: value if key in {"default", "enum", "const"} else _without_prose(value)
        for key, value in cast("dict[str, object]", schema).items()
        # A field may have such a name: what stands there is a schema, and no text.
        if not (key in _PROSE and isinstance(value, str))
    }
