"""Extended data of an iModel's changesets."""

import base64
from operator import attrgetter
from types import UnionType
from typing import Any, Final, TypeVar, overload

from itwin_async._core.operation import Operation
from itwin_async._core.validation import Id, as_sent, check_count
from itwin_async._pagination.operation_group import OperationGroup
from itwin_async._pagination.pager import Pager
from itwin_async.errors import ITwinError
from itwin_async.imodels.changesets import id_or_index
from itwin_async.imodels.extended_data_entry import (
    ExtendedData,
    Source,
    entry_type,
    payload_source,
)
from itwin_async.imodels.extended_data_page import (
    STREAM_FORMAT,
    ExtendedDataBody,
    ExtendedDataPage,
    entry_builder,
    validate_entry,
)
from itwin_async.imodels.lists import check_page_size
from itwin_async.imodels.payloads import encode_payload, payload_decoder

T = TypeVar("T")

LIST_EXTENDED_DATA: Final = Operation(
    "GET", "/imodels/{imodel_id}/changesets/extendeddata", ExtendedDataPage, version="v2"
)
GET_EXTENDED_DATA: Final = Operation(
    "GET",
    "/imodels/{imodel_id}/changesets/{changeset}/extendeddata",
    ExtendedDataBody,
    version="v2",
)
CREATE_EXTENDED_DATA: Final = Operation(
    "POST",
    "/imodels/{imodel_id}/changesets/{changeset}/extendeddata",
    ExtendedDataBody,
    version="v2",
)


class ExtendedDataOperations(OperationGroup):
    """Operations on extended data."""

    @overload
    def list_extended_data(
        self,
        imodel_id: Id,
        data_type: None = None,
        *,
        skip: int = 0,
        page_size: int | None = None,
    ) -> Pager[ExtendedData[dict[str, Any]]]: ...
    @overload
    def list_extended_data(
        self, imodel_id: Id, data_type: type[T], *, skip: int = 0, page_size: int | None = None
    ) -> Pager[ExtendedData[T]]: ...
    @overload
    def list_extended_data(
        self, imodel_id: Id, data_type: UnionType, *, skip: int = 0, page_size: int | None = None
    ) -> Pager[ExtendedData[Any]]: ...
    def list_extended_data(
        self, imodel_id: Id, data_type: Any = None, *, skip: int = 0, page_size: int | None = None
    ) -> Pager[ExtendedData[Any]]:
        """Extended data of an iModel's changesets, each payload decoded to ``data_type`` when read.

        ``data_type`` is a struct, or anything else msgspec decodes a JSON object to; a dict where
        it is None. The entries of a large page are delivered while it arrives. ``page_size`` is 100
        by default and at most 1,000. ``skip`` leaves out so many entries at the beginning; the list
        is ordered by changeset index, and data that is stored late, for an older changeset, appears
        in the middle. Iterating raises `NotFoundError` for an unknown iModel.
        Platform page: https://developer.bentley.com/apis/imodels-v2/operations/get-imodel-changesets-extended-data/

        Example::

            class Payload(msgspec.Struct):
                data: dict[str, Any]

            async for entry in itwin.imodels.list_extended_data(imodel_id, Payload):
                print(entry.changeset_index, entry.data.data)
        """
        check_count("skip", skip, least=0)
        check_page_size(page_size)
        source = payload_source(as_sent(imodel_id), payload_decoder(data_type))
        query = {"$skip": skip or None, "$top": page_size}
        request = LIST_EXTENDED_DATA.request(imodel_id=imodel_id, query=query)
        return self._list(
            request,
            entry_builder(source),
            STREAM_FORMAT,
            age_key=attrgetter("changeset_id"),
            item_type=entry_type(source.decoder.type),
        )

    @overload
    async def get_extended_data(
        self, imodel_id: Id, changeset: str | int, data_type: None = None
    ) -> ExtendedData[dict[str, Any]]: ...
    @overload
    async def get_extended_data(
        self, imodel_id: Id, changeset: str | int, data_type: type[T]
    ) -> ExtendedData[T]: ...
    @overload
    async def get_extended_data(
        self, imodel_id: Id, changeset: str | int, data_type: UnionType
    ) -> ExtendedData[Any]: ...
    async def get_extended_data(
        self, imodel_id: Id, changeset: str | int, data_type: Any = None
    ) -> ExtendedData[Any]:
        """The extended data of one changeset, by id or index.

        Raises `NotFoundError` for an unknown iModel or changeset, or one without extended data.
        Platform page: https://developer.bentley.com/apis/imodels-v2/operations/get-imodel-changeset-extended-data-details/

        Example::

            entry = await itwin.imodels.get_extended_data(imodel_id, 1)
            print(entry.changeset_id, entry.data["data"])
        """
        decoder = payload_decoder(data_type)
        request = GET_EXTENDED_DATA.request(imodel_id=imodel_id, changeset=id_or_index(changeset))
        body = await self._call(request)
        return _entry(GET_EXTENDED_DATA, body, payload_source(as_sent(imodel_id), decoder))

    async def create_extended_data(
        self, imodel_id: Id, changeset: str | int, data: object
    ) -> ExtendedData[dict[str, Any]]:
        """Store extended data with a changeset, by id or index: once, and only by who pushed it.

        ``data`` is whatever msgspec encodes to a JSON object, such as a struct or a dict, of at
        most 204,800 bytes. Raises `NotFoundError` for an unknown iModel or changeset, and
        `ConflictError` or another `ResponseError` where it cannot be stored (again). Not
        sent again where its outcome is unknown: after an error with ``outcome_unknown``, see what
        `get_extended_data` returns.
        Platform page: https://developer.bentley.com/apis/imodels-v2/operations/create-imodel-changeset-extended-data/
        """
        text = base64.b64encode(encode_payload(data)).decode()
        request = CREATE_EXTENDED_DATA.request(
            imodel_id=imodel_id, changeset=id_or_index(changeset), body={"data": text}
        )
        source = payload_source(as_sent(imodel_id), payload_decoder(None))
        try:
            return _entry(CREATE_EXTENDED_DATA, await self._call(request), source)
        except ITwinError as error:
            if error.outcome_unknown:
                error.message += "; extended data can be set only once, and may have been stored"
            raise


def _entry(
    operation: Operation[ExtendedDataBody], body: ExtendedDataBody, source: Source
) -> ExtendedData[Any]:
    """The entry of a response; `DecodeError` where it has none."""
    entry = body.entry()
    if entry is None:
        error = operation.decode_error("Object missing required field `extendedData`")
        error.outcome_unknown = operation.method == "POST"
        raise error
    return validate_entry(entry, source)
