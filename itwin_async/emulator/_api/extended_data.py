"""The iModels API: the extended data of changesets."""

import base64
import binascii
from collections.abc import Iterator
from typing import Final

import msgspec

from itwin_async.emulator._api.changesets import find_changeset
from itwin_async.emulator._api.imodels import INVALID, MAX_TOP, find_imodel
from itwin_async.emulator._api.paging import LinkStyle, page_links
from itwin_async.emulator._api.request import Request
from itwin_async.emulator._api.resource import Resource
from itwin_async.emulator._api.validation import required_property
from itwin_async.emulator._response import Response, read_object, refuse
from itwin_async.emulator._state.imodels import IModel
from itwin_async.emulator._state.seed import JSON, LARGEST_PAYLOAD

_CHUNKED_ABOVE: Final = 1 << 20  # bytes of a page, which is then encoded piece by piece
_EXTENDED_DATA: Final = Resource(
    key="extendedData",
    list_key="extendedData",
    noun="Changeset Extended Data",
    missing="ChangesetExtendedDataNotFound",
    invalid=INVALID,
    style=LinkStyle.IMODELS,
    max_top=MAX_TOP,
)


def _render(imodel: IModel, index: int) -> JSON:
    return {
        "changesetId": imodel.changeset_id(index),
        "changesetIndex": index,
        "data": imodel.data(index),
    }


def list_extended_data(request: Request) -> Response:
    """The extended data of all changesets; it pages by `$skip` alone, as its page says."""
    imodel = find_imodel(request)
    invalid = _EXTENDED_DATA.invalid_request("Cannot get Changesets Extended Data.")
    indexes = imodel.data_indexes()
    window = _EXTENDED_DATA.window(request, invalid)
    shown = indexes[window.slice]
    if len(shown) * (imodel.size.payload_bytes or 0) <= _CHUNKED_ABOVE:
        return _EXTENDED_DATA.page(request, indexes, lambda index: _render(imodel, index), invalid)
    links = page_links(request, window, len(indexes), LinkStyle.IMODELS)

    def chunks() -> Iterator[bytes]:
        opening = b'{"extendedData":['
        for index in shown:
            yield opening + msgspec.json.encode(_render(imodel, index))
            opening = b","
        yield b'],"_links":' + msgspec.json.encode(links) + b"}"

    return Response(chunks=chunks)


def get_extended_data(request: Request) -> Response:
    """The extended data of one changeset."""
    imodel = find_imodel(request)
    index = find_changeset(request, imodel)
    if not imodel.has_data(index):
        _EXTENDED_DATA.not_found()
    return _EXTENDED_DATA.one(_render(imodel, index))


def _problem_of(data: str) -> str | None:
    try:
        decoded = base64.b64decode(data, validate=True)
    except (ValueError, binascii.Error):
        return "'data' must be base64."
    if len(decoded) > LARGEST_PAYLOAD:
        return f"'data' must not be larger than {LARGEST_PAYLOAD} bytes."
    return "'data' must be a JSON object." if read_object(decoded) is None else None


def create_extended_data(request: Request) -> Response:
    """Give a changeset its extended data, once."""
    invalid = _EXTENDED_DATA.invalid_request("Cannot create Changeset Extended Data.")
    imodel = find_imodel(request)
    index = find_changeset(request, imodel)
    data = required_property(read_object(request.body) or {}, "data", str, invalid)
    if problem := _problem_of(data):
        invalid("data", problem)
    if imodel.has_data(index):
        # The page does not say what happens here; the code is one of the API's list.
        refuse(409, "DataConflict", "The Changeset already has Extended Data.")
    imodel.write_data(index, data)
    return _EXTENDED_DATA.one(_render(imodel, index), status=201)
