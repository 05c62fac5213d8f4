"""The iModels API answers as its pages describe it: iModels, changesets and extended data."""

import base64
import binascii
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from itwin_async.emulator._answers import (
    Answer,
    detail,
    is_guid,
    read_object,
    refuse,
)
from itwin_async.emulator._call import Call, prefers_full
from itwin_async.emulator._odata import checked, read_order, sort
from itwin_async.emulator._paging import links, refusal, window
from itwin_async.emulator._seed import JSON, LARGEST_PAYLOAD
from itwin_async.emulator._world import IModel

_INVALID: Final = "InvalidiModelsRequest"
_MOST: Final = 1000
_LARGE: Final = 1 << 20


def list_imodels(call: Call) -> Answer:
    """The iModels of an iTwin."""
    cannot = "Cannot get iModels."
    wrong = refusal(_INVALID, cannot)
    itwin_id = call.get("iTwinId")
    if itwin_id is None:
        message = "Required parameter 'iTwinId' is missing."
        what = detail("MissingRequiredParameter", "iTwinId", message)
        refuse(422, _INVALID, cannot, None, what)
    if not is_guid(itwin_id):
        wrong("iTwinId", f"'{itwin_id}' is not a valid 'iTwinId' value.")
    itwin = call.world.itwin(itwin_id)
    if itwin is None:
        refuse(404, "iTwinNotFound", "Requested iTwin is not available.")
    part = window(call, wrong, most=_MOST, tokens=True)
    state = call.get("state")
    if state not in {None, "initialized", "notInitialized"}:
        wrong("state", f"'{state}' is not a valid 'state' value.")
    name, search = call.get("name"), (call.get("$search") or "").lower()
    # Every iModel is initialized here.
    shown: list[JSON] = [
        {"name": imodel.name, "createdDateTime": imodel.created, "imodel": imodel}
        for imodel in call.world.imodels.values()
        if imodel.itwin_id == itwin["id"]
        and name in {None, imodel.name}
        and state != "notInitialized"
        and search in f"{imodel.name}\n{imodel.description or ''}".lower()
    ]
    sort(shown, checked(call, wrong, "$orderBy", read_order, ("name", "createdDateTime")))
    items = [call.world.imodel_json(row["imodel"], call.origin) for row in shown[part.slice]]
    if not prefers_full(call):
        items = [{"id": item["id"], "displayName": item["displayName"]} for item in items]
    return Answer(data={"iModels": items, "_links": links(call, part, len(shown), style="imodels")})


def _find(call: Call) -> IModel:
    imodel = call.world.imodels.get(call.params["imodel_id"].lower())
    if imodel is None:
        refuse(404, "iModelNotFound", "Requested iModel is not available.")
    return imodel


def get_imodel(call: Call) -> Answer:
    """One iModel."""
    return Answer(data={"iModel": call.world.imodel_json(_find(call), call.origin)})


def list_changesets(call: Call) -> Answer:
    """The changesets of an iModel."""
    imodel = _find(call)
    wrong = refusal(_INVALID, "Cannot get Changesets.")
    part = window(call, wrong, most=_MOST, tokens=True)
    bounds: dict[str, int | None] = {}
    for name in ("afterIndex", "lastIndex"):
        text = call.get(name)
        if text is not None and not (text.isascii() and text.isdigit() and len(text) < 18):
            wrong(name, f"'{text}' is not a valid '{name}' value.")
        bounds[name] = None if text is None else int(text)
    order = checked(call, wrong, "$orderBy", read_order, ("index",))
    after, last = bounds["afterIndex"] or 0, bounds["lastIndex"]
    count = call.world.changeset_count(imodel)
    shown = range(after + 1, 1 + (count if last is None else min(last, count)))
    if order and order[0][1]:
        shown = shown[::-1]
    full = prefers_full(call)
    items = [
        call.world.changeset_json(imodel, index, call.origin, full=full)
        for index in shown[part.slice]
    ]
    found = links(call, part, len(shown), style="imodels")
    return Answer(data={"changesets": items, "_links": found})


def _find_changeset(call: Call, imodel: IModel) -> int:
    index = call.world.find_changeset(imodel, call.params["changeset"])
    if index is None:
        refuse(404, "ChangesetNotFound", "Requested Changeset is not available.")
    return index


def get_changeset(call: Call) -> Answer:
    """One changeset, by id or index."""
    imodel = _find(call)
    index = _find_changeset(call, imodel)
    return Answer(
        data={"changeset": call.world.changeset_json(imodel, index, call.origin, full=True)}
    )


def list_extended_data(call: Call) -> Answer:
    """The extended data of all changesets; by `$skip` alone, as its page has it."""
    imodel = _find(call)
    wrong = refusal(_INVALID, "Cannot get Changesets Extended Data.")
    part = window(call, wrong, most=_MOST)
    indexes = call.world.data_indexes(imodel)
    shown = indexes[part.slice]
    found = links(call, part, len(indexes), style="imodels")

    def pieces() -> Iterator[bytes]:
        opening = b'{"extendedData":['
        for index in shown:
            yield opening + msgspec.json.encode(call.world.data_json(imodel, index))
            opening = b","
        yield (b"" if shown else opening) + b'],"_links":' + msgspec.json.encode(found) + b"}"

    if len(shown) * (call.world.size.payload_bytes or 0) > _LARGE:
        return Answer(pieces=pieces)
    items = [call.world.data_json(imodel, index) for index in shown]
    return Answer(data={"extendedData": items, "_links": found})


def get_extended_data(call: Call) -> Answer:
    """The extended data of one changeset."""
    imodel = _find(call)
    index = _find_changeset(call, imodel)
    if not call.world.has_data(imodel, index):
        message = "Requested Changeset Extended Data is not available."
        refuse(404, "ChangesetExtendedDataNotFound", message)
    return Answer(data={"extendedData": call.world.data_json(imodel, index)})


def _check_data(data: Any) -> str | None:
    if not isinstance(data, str):
        return "'data' must be a string."
    try:
        decoded = base64.b64decode(data, validate=True)
    except (ValueError, binascii.Error):
        return "'data' must be base64."
    if len(decoded) > LARGEST_PAYLOAD:
        return f"'data' must not be larger than {LARGEST_PAYLOAD} bytes."
    return "'data' must be a JSON object." if read_object(decoded) is None else None


def create_extended_data(call: Call) -> Answer:
    """Gives a changeset its extended data, once."""
    cannot = "Cannot create Changeset Extended Data."
    imodel = _find(call)
    index = _find_changeset(call, imodel)
    body: JSON = read_object(call.body) or {}
    if body.get("data") is None:
        message = "Required property 'data' is missing."
        what = detail("MissingRequiredProperty", "data", message)
        refuse(422, _INVALID, cannot, None, what)
    if problem := _check_data(body["data"]):
        refuse(422, _INVALID, cannot, None, detail("InvalidValue", "data", problem))
    if call.world.has_data(imodel, index):
        # The page's answer to this is not known; the code is one of the API's list.
        refuse(409, "DataConflict", "The Changeset already has Extended Data.")
    call.world.write_data(imodel, index, body["data"])
    return Answer(status=201, data={"extendedData": call.world.data_json(imodel, index)})
