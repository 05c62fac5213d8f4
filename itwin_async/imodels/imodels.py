"""The iModels API: iModels of an iTwin, their changesets, and the extended data of changesets."""

import base64
from datetime import datetime
from typing import Any, ClassVar, Final, Literal, TypeVar, overload

import msgspec

from itwin_async._core.operation import MINIMAL, REPRESENTATION, Operation
from itwin_async._core.records import Link, Record, assume_utc
from itwin_async._core.validation import check_count, check_flag, check_text, quote_segment
from itwin_async._pagination.page_types import LinkedPage, ListSpec
from itwin_async._pagination.pager import Pager
from itwin_async._pagination.prefetch import ListContext
from itwin_async.errors import ITwinError
from itwin_async.imodels.extended_data import (
    STREAMING,
    ExtendedData,
    ExtendedDataBody,
    ExtendedDataPage,
    build,
    build_one,
    payload_decoder,
    payload_of,
)

T = TypeVar("T")
_LARGEST_PAGE: Final = 1_000


class Point(Record, frozen=True, kw_only=True):
    """A place on earth, in degrees."""

    latitude: float
    longitude: float

    _repr_fields: ClassVar = ("latitude", "longitude")


class Extent(Record, frozen=True, kw_only=True):
    """The area an iModel covers."""

    south_west: Point
    north_east: Point

    _repr_fields: ClassVar = ("south_west", "north_east")


class IModelLinks(Record, frozen=True, kw_only=True):
    """Links of an iModel."""

    creator: Link | None = None
    changesets: Link | None = None
    named_versions: Link | None = None

    _repr_fields: ClassVar = ("creator", "changesets", "named_versions")


class IModel(Record, frozen=True, kw_only=True):
    """An iModel. A list gives ``id`` and ``display_name`` for sure, the rest by representation."""

    id: str
    display_name: str | None = None
    name: str | None = None
    description: str | None = None
    state: str | None = None
    itwin_id: str | None = None
    data_center_location: str | None = None
    created_date_time: datetime | None = None
    last_changeset_push_date_time: datetime | None = None
    is_secured: bool | None = None
    extent: Extent | None = None
    containers_enabled: int | None = None
    links: IModelLinks | None = None

    _repr_fields: ClassVar = ("display_name", "id", "state")

    def __post_init__(self) -> None:
        assume_utc(self, "created_date_time", "last_changeset_push_date_time")


class Application(Record, frozen=True, kw_only=True):
    """The application that pushed a changeset."""

    id: str | None = None
    name: str | None = None

    _repr_fields: ClassVar = ("name", "id")


class SynchronizationInfo(Record, frozen=True, kw_only=True):
    """The synchronization run that a changeset came from, and the files it changed."""

    task_id: str | None = None
    changed_files: tuple[str, ...] | None = None

    _repr_fields: ClassVar = ("task_id", "changed_files")


class ChangesetLinks(Record, frozen=True, kw_only=True):
    """Links of a changeset. ``download`` is signed, and None without permission to download."""

    self_: Link | None = None
    creator: Link | None = None
    named_version: Link | None = None
    named_versions: Link | None = None
    current_or_preceding_checkpoint: Link | None = None
    download: Link | None = None

    _repr_fields: ClassVar = ("self_", "creator", "download")
    _signed: ClassVar = ("download",)


class Changeset(Record, frozen=True, kw_only=True):
    """A changeset. ``index`` grows along an iModel but may have gaps; ``file_size`` is in bytes.

    ``containing_changes`` is a sum of flags: 1 schema, 2 definition, 4 spatial data, 8 sheets and
    drawings, 16 views and models, 32 global properties, 64 schema synchronization; 0 is regular.
    ``application``, ``synchronization_info`` and some links come by representation only.
    """

    id: str
    index: int
    display_name: str | None = None
    description: str | None = None
    parent_id: str | None = None
    creator_id: str | None = None
    push_date_time: datetime | None = None
    state: str | None = None
    containing_changes: int | None = None
    file_size: int | None = None
    briefcase_id: int | None = None
    group_id: str | None = None
    application: Application | None = None
    synchronization_info: SynchronizationInfo | None = None
    links: ChangesetLinks | None = None

    _repr_fields: ClassVar = ("index", "id", "description")

    def __post_init__(self) -> None:
        assume_utc(self, "push_date_time")


class IModelPage(LinkedPage[IModel]):
    """A page of iModels."""

    imodels: list[IModel] = msgspec.field(name="iModels")

    def entries(self) -> list[IModel]:
        """The iModels."""
        return self.imodels


class IModelBody(msgspec.Struct):
    """The answer with one iModel."""

    imodel: IModel = msgspec.field(name="iModel")


class ChangesetPage(LinkedPage[Changeset]):
    """A page of changesets."""

    changesets: list[Changeset]

    def entries(self) -> list[Changeset]:
        """The changesets."""
        return self.changesets


class ChangesetBody(msgspec.Struct):
    """The answer with one changeset."""

    changeset: Changeset


LIST_IMODELS: Final = Operation("GET", "/imodels/", IModelPage, version="v2")
GET_IMODEL: Final = Operation("GET", "/imodels/{imodel_id}", IModelBody, version="v2")
LIST_CHANGESETS: Final = Operation(
    "GET", "/imodels/{imodel_id}/changesets", ChangesetPage, version="v2"
)
GET_CHANGESET: Final = Operation(
    "GET", "/imodels/{imodel_id}/changesets/{changeset}", ChangesetBody, version="v2"
)
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


class IModels:
    """Operations on iModels: ``itwin.imodels``."""

    def __init__(self, context: ListContext) -> None:
        self._context = context
        self._executor = context.executor

    def list_imodels(
        self,
        itwin_id: str,
        *,
        search: str | None = None,
        name: str | None = None,
        state: str | None = None,
        order_by: str | None = None,
        representation: bool = False,
        page_size: int | None = None,
    ) -> Pager[IModel]:
        """iModels of an iTwin.

        ``search`` looks in names and descriptions, ``name`` is the whole name, ``state`` is
        ``initialized`` or ``notInitialized``, ``order_by`` such as ``name asc`` or
        ``createdDateTime desc``. ``representation`` asks for all fields. ``page_size`` is 100 by
        default and at most 1,000. Iterating raises `NotFoundError` for an unknown iTwin.
        Platform page: https://developer.bentley.com/apis/imodels-v2/operations/get-itwin-imodels/
        """
        quote_segment("itwin_id", itwin_id)
        texts = {"search": search, "name": name, "state": state, "order_by": order_by}
        for argument, value in texts.items():
            check_text(argument, value)
        check_count("page_size", page_size, most=_LARGEST_PAGE, optional=True)
        check_flag("representation", representation)
        request = LIST_IMODELS.request(
            query={
                "iTwinId": itwin_id,
                "$search": search,
                "name": name,
                "state": state,
                "$orderBy": order_by,
                "$top": page_size,
            },
            headers={"Prefer": REPRESENTATION if representation else MINIMAL},
        )
        return Pager(self._context, ListSpec(request, list))

    async def get_imodel(self, imodel_id: str) -> IModel:
        """One iModel. Raises `NotFoundError` for an unknown one.

        Platform page: https://developer.bentley.com/apis/imodels-v2/operations/get-imodel-details/
        """
        answer = await self._executor.execute_decoded(GET_IMODEL.request(imodel_id=imodel_id))
        return answer.imodel

    def list_changesets(
        self,
        imodel_id: str,
        *,
        after_index: int | None = None,
        last_index: int | None = None,
        order: Literal["asc", "desc"] | None = None,
        representation: bool = False,
        page_size: int | None = None,
    ) -> Pager[Changeset]:
        """Changesets of an iModel, those after ``after_index`` up to and with ``last_index``.

        ``order`` is by index. ``representation`` asks for all fields. ``page_size`` is 100 by
        default and at most 1,000. Iterating raises `NotFoundError` for an unknown iModel.
        Platform page: https://developer.bentley.com/apis/imodels-v2/operations/get-imodel-changesets/
        """
        check_count("after_index", after_index, least=0, optional=True)
        check_count("last_index", last_index, least=0, optional=True)
        check_count("page_size", page_size, most=_LARGEST_PAGE, optional=True)
        check_flag("representation", representation)
        if order not in {None, "asc", "desc"}:
            raise ValueError(f"order must be 'asc' or 'desc', not {order!r}")
        request = LIST_CHANGESETS.request(
            imodel_id=imodel_id,
            query={
                "afterIndex": after_index,
                "lastIndex": last_index,
                "$orderBy": f"index {order}" if order else None,
                "$top": page_size,
            },
            headers={"Prefer": REPRESENTATION if representation else MINIMAL},
        )
        return Pager(self._context, ListSpec(request, list))

    async def get_changeset(self, imodel_id: str, changeset: str | int) -> Changeset:
        """One changeset, by id or index. Raises `NotFoundError` for an unknown one.

        Platform page: https://developer.bentley.com/apis/imodels-v2/operations/get-imodel-changeset-details/
        """
        answer = await self._executor.execute_decoded(
            GET_CHANGESET.request(imodel_id=imodel_id, changeset=_id_or_index(changeset))
        )
        return answer.changeset

    @overload
    def list_extended_data(
        self, imodel_id: str, data_type: None = None, *, page_size: int | None = None
    ) -> Pager[ExtendedData[dict[str, Any]]]: ...
    @overload
    def list_extended_data(
        self, imodel_id: str, data_type: type[T], *, page_size: int | None = None
    ) -> Pager[ExtendedData[T]]: ...
    @overload
    def list_extended_data(
        self, imodel_id: str, data_type: Any, *, page_size: int | None = None
    ) -> Pager[ExtendedData[Any]]: ...
    def list_extended_data(
        self, imodel_id: str, data_type: Any = None, *, page_size: int | None = None
    ) -> Pager[ExtendedData[Any]]:
        """Extended data of an iModel's changesets, each payload as a ``data_type`` when reached.

        ``data_type`` is a struct, or anything else msgspec decodes a JSON object to; a dict where
        it is None. A large page is handed over while it arrives. ``page_size`` is 100 by default
        and at most 1,000. Iterating raises `NotFoundError` for an unknown iModel.
        Platform page: https://developer.bentley.com/apis/imodels-v2/operations/get-imodel-changesets-extended-data/
        """
        check_count("page_size", page_size, most=_LARGEST_PAGE, optional=True)
        made = payload_decoder(data_type)
        request = LIST_EXTENDED_DATA.request(imodel_id=imodel_id, query={"$top": page_size})
        return Pager(self._context, ListSpec(request, build(imodel_id, made), STREAMING))

    @overload
    async def get_extended_data(
        self, imodel_id: str, changeset: str | int, data_type: None = None
    ) -> ExtendedData[dict[str, Any]]: ...
    @overload
    async def get_extended_data(
        self, imodel_id: str, changeset: str | int, data_type: type[T]
    ) -> ExtendedData[T]: ...
    @overload
    async def get_extended_data(
        self, imodel_id: str, changeset: str | int, data_type: Any
    ) -> ExtendedData[Any]: ...
    async def get_extended_data(
        self, imodel_id: str, changeset: str | int, data_type: Any = None
    ) -> ExtendedData[Any]:
        """The extended data of one changeset, by id or index.

        Raises `NotFoundError` for an unknown iModel or changeset, or one without extended data.
        Platform page: https://developer.bentley.com/apis/imodels-v2/operations/get-imodel-changeset-extended-data-details/
        """
        made = payload_decoder(data_type)
        request = GET_EXTENDED_DATA.request(imodel_id=imodel_id, changeset=_id_or_index(changeset))
        answer = await self._executor.execute_decoded(request)
        return _one(GET_EXTENDED_DATA, answer, imodel_id, made)

    async def create_extended_data(
        self, imodel_id: str, changeset: str | int, data: object
    ) -> ExtendedData[dict[str, Any]]:
        """Store extended data with a changeset, by id or index: once, and only by who pushed it.

        ``data`` is whatever msgspec encodes to a JSON object, such as a struct or a dict, of at
        most 204,800 bytes. Raises `NotFoundError` for an unknown iModel or changeset, and
        `ConflictError` or another `ResponseError` where it cannot be stored (again). Never sent
        twice in doubt: after an error with ``outcome_unknown``, see what `get_extended_data`
        gives.
        Platform page: https://developer.bentley.com/apis/imodels-v2/operations/create-imodel-changeset-extended-data/
        """
        text = base64.b64encode(payload_of(data)).decode()
        request = CREATE_EXTENDED_DATA.request(
            imodel_id=imodel_id, changeset=_id_or_index(changeset), body={"data": text}
        )
        try:
            answer = await self._executor.execute_decoded(request)
            return _one(CREATE_EXTENDED_DATA, answer, imodel_id, payload_decoder(None))
        except ITwinError as error:
            if error.outcome_unknown:
                error.message += "; extended data can be set only once, and may have been stored"
                error.args = (error.message,)
            raise


def _one(
    operation: Operation[ExtendedDataBody], answer: ExtendedDataBody, imodel_id: str, made: Any
) -> ExtendedData[Any]:
    """The entry that an answer holds."""
    entry = answer.entry()
    if entry is None:
        error = operation.decode_error("Object missing required field `extendedData`")
        error.outcome_unknown = operation.method == "POST"
        raise error
    return build_one(imodel_id, entry, made)


def _id_or_index(changeset: object) -> str:
    """A changeset's id, or its index, as the platform's own client tells them apart."""
    if isinstance(changeset, int) and not isinstance(changeset, bool) and changeset < 0:
        raise ValueError(f"changeset must be an id or an index of at least 0, not {changeset}")
    if not isinstance(changeset, str | int) or isinstance(changeset, bool):
        raise TypeError(f"changeset must be a str or an int, not {type(changeset).__name__}")
    return str(changeset)
