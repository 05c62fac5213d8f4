"""The iModels API: changesets."""

from typing import Final

from itwin_async.emulator._api.imodels import INVALID, MAX_TOP, find_imodel
from itwin_async.emulator._api.odata import read_order, read_parameter
from itwin_async.emulator._api.paging import LinkStyle
from itwin_async.emulator._api.request import Request
from itwin_async.emulator._api.resource import Resource
from itwin_async.emulator._api.storage import download_link
from itwin_async.emulator._response import Response
from itwin_async.emulator._state.imodels import IModel
from itwin_async.emulator._state.seed import JSON

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


def _render(request: Request, imodel: IModel, index: int, *, full: bool) -> JSON:
    changeset, url = imodel.changeset(index), f"{request.origin}/imodels/{imodel.id}"
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
        file = changeset.file_name
        links |= {
            "namedVersion": None,
            "currentOrPrecedingCheckpoint": None,
            "download": download_link(request, imodel.id, file, changeset.file_size),
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
        request, indexes, lambda index: _render(request, imodel, index, full=full), invalid
    )


def get_changeset(request: Request) -> Response:
    """One changeset, by id or index."""
    imodel = find_imodel(request)
    return CHANGESET.one(_render(request, imodel, find_changeset(request, imodel), full=True))
