"""Calls the method of any operation with the arguments that it needs."""

import inspect
from typing import Any

from declared import DECLARED

from itwin_async import ITwinSession, LockedObjects
from itwin_async._core.validation import Id

# What a method is called with, by the name or the annotation of an argument that it needs.
PNG = b"\x89PNG\r\n\x1a\n and so on"
NAMED = {
    "image": PNG,
    "assignments": {"a": ["b"]},
    "credentials": {"User": "a"},
    "callback_url": "https://a.example/",
    "event_types": ["a"],
    "scope": "Account",
    "changeset_id": "ab" * 20,
    "locked_objects": [LockedObjects(lock_level="shared", object_ids=("0x1",))],
}
SAMPLES: dict[Any, Any] = {str: "a", Id: "a", int: 1, str | int: 1, object: {"a": 1}}
# What it needs although it has defaults.
MORE: dict[str, dict[str, Any]] = {
    "update_webhook": {"active": True},
    "update_imodel": {"description": "b"},
    "update_named_version": {"state": "hidden"},
    "clone_imodel": {"wait": False},
    "fork_imodel": {"wait": False},
}


def call(itwin: ITwinSession, name: str, **given: object) -> Any:
    """The method that binds an operation, called with what it needs, and these arguments."""
    group = next(group for group, found in DECLARED.items() if name in found)
    method = getattr(getattr(itwin, group), name)
    needed = {
        parameter.name: NAMED.get(parameter.name) or SAMPLES[parameter.annotation]
        for parameter in inspect.signature(method).parameters.values()
        if parameter.default is parameter.empty
    }
    return method(**{**needed, **MORE.get(name, {}), **given})
