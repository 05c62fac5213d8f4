"""The iModels API: changesets."""

import re
from collections.abc import Mapping
from typing import Any, Final, cast

from itwin_async.emulator._api.briefcases import find_briefcase
from itwin_async.emulator._api.changeset_groups import find_group
from itwin_async.emulator._api.imodels import INVALID, MAX_TOP, find_imodel
from itwin_async.emulator._api.odata import read_order, read_parameter
from itwin_async.emulator._api.paging import LinkStyle
from itwin_async.emulator._api.request import Request
from itwin_async.emulator._api.resource import Resource
from itwin_async.emulator._api.storage import download_link, upload_link
from itwin_async.emulator._api.validation import (
    InvalidRequest,
    optional_property,
    read_body,
    required_property,
    text_property,
)
from itwin_async.emulator._response import Response, refuse
from itwin_async.emulator._state.changesets import Changeset
from itwin_async.emulator._state.imodels import IModel
from itwin_async.emulator._state.seed import JSON

_ID: Final = re.compile(r"[0-9a-f]{40}")
CHANGESET: Final = Resource(
    key="changeset",
    list_key="changesets",
    noun="Changeset",
    missing="ChangesetNotFound",
    invalid=INVALID,
    style=LinkStyle.IMODELS,
    max_top=MAX_TOP,
    has_tokens=True,
)


def find_changeset(request: Request, imodel: IModel) -> int:
    """The index of the changeset that the path names, or a 404."""
    index = imodel.find_changeset(request.params["changeset"])
    return CHANGESET.not_found() if index is None else index


def _render(request: Request, imodel: IModel, changeset: Changeset, *, full: bool) -> JSON:
    url, index = f"{request.origin}/imodels/{imodel.id}", changeset.index
    links: JSON = {
        "self": {"href": f"{url}/changesets/{changeset.id}"},
        "creator": {"href": f"{url}/users/{changeset.creator_id}"},
    }
    item: JSON = {
        "id": changeset.id,
        "displayName": str(index),
        "description": changeset.description,
        "index": index,
        "parentId": changeset.parent_id,
        "creatorId": changeset.creator_id,
        "pushDateTime": changeset.pushed_at,
        "state": changeset.state,
        "containingChanges": changeset.containing_changes,
        "fileSize": changeset.file_size,
        "briefcaseId": changeset.briefcase_id,
        "groupId": changeset.group_id,
        "_links": links,
    }
    if full:
        item["application"] = changeset.application
        item["synchronizationInfo"] = changeset.synchronization_info
        file, version = changeset.file_name, imodel.version_on(index)
        links |= {
            "namedVersion": version and {"href": f"{url}/namedversions/{version.id}"},
            "currentOrPrecedingCheckpoint": {"href": f"{links['self']['href']}/checkpoint"},
            "download": download_link(request, imodel.id, file, changeset.file_size)
            if changeset.state == "fileUploaded"
            else None,
        }
    return item


def list_changesets(request: Request) -> Response:
    """The changesets of an iModel."""
    imodel = find_imodel(request)
    invalid = CHANGESET.invalid_request("Cannot get Changesets.")
    bounds: dict[str, int | None] = {}
    for name in ("afterIndex", "lastIndex"):
        text = request.get(name)
        if text is not None and not (text.isascii() and text.isdigit() and len(text) < 18):
            invalid(name, f"'{text}' is not a valid '{name}' value.")
        bounds[name] = None if text is None else int(text)
    order = read_parameter(request, invalid, "$orderBy", read_order, ("index",))
    after, last = bounds["afterIndex"] or 0, bounds["lastIndex"]
    count = imodel.changeset_count
    indexes = range(after + 1, 1 + (count if last is None else min(last, count)))
    if order and order[0][1]:
        indexes = indexes[::-1]
    full = request.prefers_full
    return CHANGESET.page(
        request,
        indexes,
        lambda index: _render(request, imodel, imodel.changeset(index), full=full),
        invalid,
    )


def get_changeset(request: Request) -> Response:
    """One changeset, by id or index."""
    imodel = find_imodel(request)
    changeset = imodel.changeset(find_changeset(request, imodel))
    return CHANGESET.one(_render(request, imodel, changeset, full=True))


def create_changeset(request: Request) -> Response:
    """Begin a push: the file is sent to the link in the response, and confirmed then."""
    imodel = find_imodel(request)
    invalid = CHANGESET.invalid_request("Cannot create Changeset.")
    changeset = _read_changeset(request, imodel, invalid)
    last = imodel.changeset_id(imodel.changeset_count) if imodel.changeset_count else ""
    pending, now = imodel.pending, request.state.clock.time()
    if imodel.find_changeset(changeset.id) is not None:
        refuse(409, "ChangesetExists", "Changeset with the same id already exists.")
    is_others = pending is not None and pending.creator_id != request.user.id
    if is_others and now < imodel.pending_until:
        refuse(409, "AnotherUserPushing", "Another user is pushing a Changeset.")
    if changeset.parent_id != last:
        refuse(409, "NewerChangesExist", "There are newer Changesets than the parent.")
    # Somebody who never confirms stands against others as long as the upload's address is valid.
    imodel.pending, imodel.pending_until = changeset, now + request.signer.lifetime
    item = _render(request, imodel, changeset, full=True)
    item["_links"] |= {
        "upload": upload_link(request, imodel.id, changeset.file_name),
        "complete": {"href": item["_links"]["self"]["href"]},
    }
    return CHANGESET.one(item, status=201)


def _read_changeset(request: Request, imodel: IModel, invalid: InvalidRequest) -> Changeset:
    """The changeset of a body, which waits for its file."""
    body = read_body(request, invalid)
    id = required_property(body, "id", str, invalid).lower()
    if _ID.fullmatch(id) is None:
        invalid("id", "'id' must have 40 hexadecimal digits.")
    file_size = required_property(body, "fileSize", int, invalid)
    flags = optional_property(body, "containingChanges", int, invalid) or 0
    for name, value, least in (("fileSize", file_size, 1), ("containingChanges", flags, 0)):
        if value < least:
            invalid(name, f"'{value}' is not a valid '{name}' value.")
    briefcase = find_briefcase(imodel, required_property(body, "briefcaseId", int, invalid))
    group_id = optional_property(body, "groupId", str, invalid)
    if group_id is not None:
        find_group(imodel, group_id)
    sent = cast("Mapping[str, Any] | None", body.get("synchronizationInfo"))
    run: JSON | None = None
    if optional_property(body, "synchronizationInfo", dict, invalid) is not None and sent:
        task_id = required_property(dict(sent), "taskId", str, invalid)
        if sent.get("changedFiles") == []:
            invalid("changedFiles", "'changedFiles' must not be empty.")
        run = {"taskId": task_id, "changedFiles": sent.get("changedFiles")}
    return Changeset(
        index=imodel.changeset_count + 1,
        id=id,
        parent_id=(optional_property(body, "parentId", str, invalid) or "").lower(),
        pushed_at=request.state.timestamp(),
        creator_id=request.user.id,
        file_size=file_size,
        description=text_property(body, "description", invalid),
        state="waitingForFile",
        containing_changes=flags,
        briefcase_id=briefcase.number,
        group_id=group_id,
        synchronization_info=run,
    )


def confirm_changeset(request: Request) -> Response:
    """End a push whose file has arrived."""
    imodel = find_imodel(request)
    invalid = CHANGESET.invalid_request("Cannot update Changeset.")
    pending, id = imodel.pending, request.params["changeset_id"].lower()
    if pending is None or pending.id != id:
        index = imodel.find_changeset(id) if _ID.fullmatch(id) else None
        if index is None:
            CHANGESET.not_found()
        # It was confirmed before.
        return CHANGESET.one(_confirmed(request, imodel, imodel.changeset(index)))
    body = read_body(request, invalid)
    state = required_property(body, "state", str, invalid)
    if state != "fileUploaded":
        invalid("state", f"'{state}' is not a valid 'state' value.")
    briefcase = find_briefcase(imodel, required_property(body, "briefcaseId", int, invalid))
    if briefcase.number != pending.briefcase_id:
        invalid("briefcaseId", "It is not the Briefcase of the Changeset.")
    file = request.state.storage.find(imodel.id, pending.file_name)
    if file is None:
        refuse(404, "FileNotFound", "The file of the Changeset was not uploaded.")
    if file.size != pending.file_size:
        refuse(409, "DataConflict", "The file of the Changeset has another size than 'fileSize'.")
    pending.state, imodel.pending = "fileUploaded", None
    # A test may have pushed others meanwhile.
    pending.index, pending.pushed_at = imodel.changeset_count + 1, request.state.timestamp()
    pending.parent_id = imodel.changeset_id(pending.index - 1) if pending.index > 1 else ""
    request.state.append_changeset(imodel, pending)
    return CHANGESET.one(_confirmed(request, imodel, pending))


def _confirmed(request: Request, imodel: IModel, changeset: Changeset) -> JSON:
    """A changeset as the answer of its confirmation has it, which leaves some out."""
    item = _render(request, imodel, changeset, full=True)
    item["synchronizationInfo"] = None
    item["_links"] |= {"download": None, "currentOrPrecedingCheckpoint": None}
    return item
