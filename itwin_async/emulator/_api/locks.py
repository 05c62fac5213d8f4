"""The iModels API: locks of briefcases on objects."""

from collections.abc import Iterable, Mapping
from typing import Any, Final, cast

from itwin_async.emulator._api.briefcases import find_briefcase
from itwin_async.emulator._api.imodels import INVALID, MAX_TOP, find_imodel
from itwin_async.emulator._api.paging import LinkStyle
from itwin_async.emulator._api.request import Request
from itwin_async.emulator._api.resource import Resource
from itwin_async.emulator._api.validation import (
    InvalidRequest,
    optional_property,
    read_body,
    required_property,
)
from itwin_async.emulator._response import RefusedError, Response, error_detail, refuse
from itwin_async.emulator._state.imodels import IModel
from itwin_async.emulator._state.locks import LEVELS, RELEASE_CHUNK, LocksRefusedError
from itwin_async.emulator._state.seed import JSON

_LOCK: Final = Resource(
    key="lock",
    list_key="locks",
    noun="Lock(s)",
    missing="LockNotFound",
    invalid=INVALID,
    style=LinkStyle.IMODELS,
    max_top=MAX_TOP,
    has_tokens=True,
)
_RELEASED: Final = Resource(
    key="releasedLock",
    list_key="releasedLocks",
    noun="Lock(s)",
    missing="LockNotFound",
    invalid=INVALID,
    style=LinkStyle.IMODELS,
    max_top=MAX_TOP,
    has_tokens=True,
)
_STATUS: Final = {"LockNotFound": 404}


def _by_level(objects: Mapping[str, str]) -> list[JSON]:
    levels: dict[str, list[str]] = {}
    for id, level in objects.items():
        levels.setdefault(level, []).append(id)
    return [{"lockLevel": level, "objectIds": ids} for level, ids in levels.items()]


def _number(request: Request, name: str, invalid: InvalidRequest) -> int | None:
    text = request.get(name)
    if text is not None and not (text.isascii() and text.isdigit() and len(text) < 18):
        invalid(name, f"'{text}' is not a valid '{name}' value.")
    return None if text is None else int(text)


def list_locks(request: Request) -> Response:
    """The locks of an iModel, one entry for each briefcase."""
    imodel = find_imodel(request)
    invalid = _LOCK.invalid_request("Cannot get Locks.")
    only, level = _number(request, "briefcaseId", invalid), request.get("lockLevel")
    if level is not None and level not in LEVELS:
        invalid("lockLevel", f"'{level}' is not a valid 'lockLevel' value.")
    found: list[JSON] = []
    for briefcase in imodel.locks.briefcases():
        held = imodel.locks.of(briefcase)
        shown = {id: lock for id, lock in held.items() if level in {None, lock}}
        if only in {None, briefcase} and shown:
            found.append({"briefcaseId": briefcase, "lockedObjects": _by_level(shown)})
    return _LOCK.page(request, found, lambda item: item, invalid)


def update_locks(request: Request) -> Response:
    """Lock and release objects, all of them or none."""
    imodel = find_imodel(request)
    invalid = _LOCK.invalid_request("Cannot update Lock(s).")
    body = read_body(request, invalid)
    briefcase, index = _read_briefcase(imodel, body, invalid)
    wanted = _read_objects(body, invalid)
    try:
        imodel.locks.change(briefcase, wanted, index)
    except LocksRefusedError as refusal:
        error = error_detail(refusal.code, None, refusal.message) | refusal.members
        status = _STATUS.get(refusal.code, 409)
        raise RefusedError(Response(status=status, json={"error": error})) from None
    return _LOCK.one({"briefcaseId": briefcase, "lockedObjects": _by_level(wanted)})


def release_locks(request: Request) -> Response:
    """Release the next locks of a briefcase, and say whether they were the last."""
    imodel = find_imodel(request)
    invalid = _LOCK.invalid_request("Cannot release Lock(s).")
    briefcase, index = _read_briefcase(imodel, read_body(request, invalid), invalid)
    held = list(imodel.locks.of(briefcase))
    imodel.locks.release(briefcase, held[:RELEASE_CHUNK], index)
    return Response(json={"isLastChunk": len(held) <= RELEASE_CHUNK})


def list_released_locks(request: Request) -> Response:
    """The objects that were released after a changeset."""
    imodel = find_imodel(request)
    invalid = _RELEASED.invalid_request("Cannot get released Locks.")
    after = _number(request, "afterChangesetIndex", invalid) or 0
    released = {id: level for id, (at, level) in imodel.locks.released.items() if at > after}
    return _RELEASED.page(request, _by_level(released), lambda item: item, invalid)


def _read_briefcase(imodel: IModel, body: JSON, invalid: InvalidRequest) -> tuple[int, int]:
    """The briefcase, and the index of the changeset that it is at."""
    number = required_property(body, "briefcaseId", int, invalid)
    find_briefcase(imodel, number)
    changeset_id = optional_property(body, "changesetId", str, invalid)
    index = imodel.find_changeset(changeset_id) if changeset_id else 0
    if index is None:
        refuse(404, "ChangesetNotFound", "Requested Changeset is not available.")
    return number, index


def _read_objects(body: JSON, invalid: InvalidRequest) -> dict[str, str]:
    """The level that is wanted of each object."""
    wanted: dict[str, str] = {}
    required_property(body, "lockedObjects", list, invalid)
    for entry in cast("Iterable[Any]", body["lockedObjects"]):
        fields = cast("JSON", entry) if isinstance(entry, dict) else {}
        level, ids = fields.get("lockLevel"), fields.get("objectIds")
        if level not in LEVELS or not isinstance(ids, list):
            invalid("lockedObjects", "Each needs a 'lockLevel' and its 'objectIds'.")
        for id in cast("Iterable[Any]", ids):
            if not isinstance(id, str) or not id.startswith("0x"):
                invalid("objectIds", f"'{id}' is not a valid 'objectIds' value.")
            wanted[id.lower()] = cast("str", level)
    return wanted
