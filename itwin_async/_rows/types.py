"""Types of payloads: those that stay JSON text, and the names and schema digests of others.

A type of the same name may have other fields by now, which its digest tells.
"""

import hashlib
from typing import Any, Final, cast

import msgspec

AS_IT_CAME: Final = (dict, msgspec.Raw, Any)  # payloads that stay JSON text
# Text for readers: a type stays the same when its docstring changes.
_TEXTS: Final = ("title", "description")


def type_name(data_type: Any) -> str:
    """The name of a type, with its module."""
    if isinstance(data_type, type):
        return f"{data_type.__module__}.{data_type.__qualname__}"
    return repr(data_type)


def schema_digest(data_type: Any) -> str:
    """A digest of the names, types and defaults of a type's fields, in order.

    It is empty for None, and for a type that JSON Schema cannot describe.
    """
    if data_type is None:
        return ""
    try:
        schema = msgspec.json.schema(data_type)
    except (TypeError, ValueError):
        return ""
    return hashlib.sha256(msgspec.json.encode(_without_texts(schema))).hexdigest()[:16]


def _without_texts(schema: object) -> object:
    if isinstance(schema, list):
        return [_without_texts(item) for item in cast("list[object]", schema)]
    if not isinstance(schema, dict):
        return schema
    return {
        key: value if key in {"default", "enum", "const"} else _without_texts(value)
        for key, value in cast("dict[str, object]", schema).items()
        # A field may have such a name: its value is a schema then, and no text.
        if not (key in _TEXTS and isinstance(value, str))
    }
