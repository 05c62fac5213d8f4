"""Integration packages that an organization subscribed to, their execution and their OData."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from types import UnionType
from typing import Any, ClassVar, Final, Literal, TypeVar, overload

import msgspec

from itwin_async._core.json import NOT_DECODED, decoder, why_not_decoded
from itwin_async._core.operation import Operation
from itwin_async._core.records import Record, assume_utc
from itwin_async._core.validation import Id, check_count, check_flag, check_text
from itwin_async._pagination.operation_group import OperationGroup
from itwin_async._pagination.page_types import ODataPage, SinglePage
from itwin_async._pagination.pager import Pager

T = TypeVar("T")


class IntegrationPackage(Record, frozen=True, kw_only=True):
    """An integration package. ``project_stage`` is Preview, Current or Obsolete, so far.

    ``input_example``, ``response_example`` (JSON text) and ``last_change`` come with one package,
    not with the list. What a package is executed with and answers may differ from its examples,
    also in the case of names.
    """

    unique_name: str | None = None
    name: str | None = None
    description: str | None = None
    version: str | None = None
    project_stage: str | None = None
    is_odata: bool | None = None
    subscription_id: str | None = None
    subscribed_by: str | None = None
    subscribed_by_name: str | None = None
    subscribed_on: datetime | None = None
    last_change: datetime | None = None
    input_example: str | None = None
    response_example: str | None = None

    _repr_fields: ClassVar = ("unique_name", "name", "version", "project_stage")

    def __post_init__(self) -> None:
        assume_utc(self, "subscribed_on", "last_change")

    @property
    def input_example_decoded(self) -> Any:
        """``input_example`` decoded; None where there is none, or it is not JSON."""
        return _decode_example(self.input_example)

    @property
    def response_example_decoded(self) -> Any:
        """``response_example`` decoded; None where there is none, or it is not JSON."""
        return _decode_example(self.response_example)


def _decode_example(example: str | None) -> Any:
    try:
        return msgspec.json.decode(example or "null")
    except NOT_DECODED:
        return None


class EntitySet(Record, frozen=True, kw_only=True):
    """A set of rows that a package offers by OData. ``url`` is relative to the package's."""

    name: str
    kind: str | None = None
    url: str | None = None

    _repr_fields: ClassVar = ("name", "kind")


class PackagePage(SinglePage[IntegrationPackage]):
    """All packages, in one response."""

    packages: list[IntegrationPackage]


class EntitySetPage(SinglePage[EntitySet]):
    """The OData service document: all sets, in one response."""

    value: list[EntitySet]
    context: Any = msgspec.field(name="@odata.context", default=None)


LIST_PACKAGES: Final = Operation("GET", "/edfs/packages", PackagePage)
GET_PACKAGE: Final = Operation("GET", "/edfs/packages/{unique_name}", IntegrationPackage)
EXECUTE_PACKAGE: Final = Operation("POST", "/edfs/itwins/{itwin_id}/packages/{unique_name}", object)
LIST_ENTITY_SETS: Final = Operation(
    "GET", "/edfs/itwins/{itwin_id}/packages/{unique_name}/odata", EntitySetPage
)
LIST_ENTITIES: Final = Operation(
    "GET", "/edfs/itwins/{itwin_id}/packages/{unique_name}/odata/{entity_set}", ODataPage
)


class PackageOperations(OperationGroup):
    """Operations on integration packages."""

    def list_packages(self) -> Pager[IntegrationPackage]:
        """The packages the organization subscribed to, in one page.

        Platform page: https://developer.bentley.com/apis/edfs/operations/subscribed-packages-get/
        """
        return self._list(LIST_PACKAGES.request())

    async def get_package(self, unique_name: str) -> IntegrationPackage:
        """One package with its examples. Raises `NotFoundError` for an unknown one.

        Platform page: https://developer.bentley.com/apis/edfs/operations/subscribed-packages-details-get/
        """
        if unique_name == "roles":
            raise ValueError(
                "a package named 'roles' cannot be read: its URL is another operation, the list of "
                "package roles"
            )
        return await self._call(GET_PACKAGE.request(unique_name=unique_name))

    @overload
    async def execute_package(
        self,
        itwin_id: Id,
        unique_name: str,
        *,
        variables: Mapping[str, str] | None = None,
        as_xml: Literal[False] = False,
        returns: None = None,
    ) -> Any: ...
    @overload
    async def execute_package(
        self,
        itwin_id: Id,
        unique_name: str,
        *,
        variables: Mapping[str, str] | None = None,
        as_xml: Literal[True],
        returns: None = None,
    ) -> bytes: ...
    @overload
    async def execute_package(
        self,
        itwin_id: Id,
        unique_name: str,
        *,
        variables: Mapping[str, str] | None = None,
        as_xml: Literal[False] = False,
        returns: type[T],
    ) -> T: ...
    async def execute_package(
        self,
        itwin_id: Id,
        unique_name: str,
        *,
        variables: Mapping[str, str] | None = None,
        as_xml: bool = False,
        returns: Any = None,
    ) -> Any:
        """Run a package for an iTwin, and wait for its result.

        ``variables`` are those of the package's ``input_example``, by name. Gives the decoded JSON,
        or ``returns`` decoded to (``bytes`` is the body as it is), or with ``as_xml`` the XML as
        bytes. Raises `ForbiddenError` without the permission to execute, `NotFoundError` for an
        unknown iTwin or package, `InvalidRequestError` for variables it cannot take. Not sent
        again where its outcome is unknown.
        Platform page: https://developer.bentley.com/apis/edfs/operations/execute-post/
        """
        check_flag("as_xml", as_xml)
        if as_xml and returns is not None:
            raise ValueError("as_xml gives bytes: leave out returns")
        kind = bytes if as_xml else Any if returns is None else returns
        if kind is not bytes:
            decoder(kind)
        body: dict[str, object] = {"returnAsXml": as_xml}
        if variables is not None:
            body["variables"] = name_value_pairs(variables)
        request = EXECUTE_PACKAGE.request(itwin_id=itwin_id, unique_name=unique_name, body=body)
        operation: Operation[Any] = replace(EXECUTE_PACKAGE, returns=kind)
        return await self._call(msgspec.structs.replace(request, operation=operation))

    def list_entity_sets(self, itwin_id: Id, unique_name: str) -> Pager[EntitySet]:
        """The sets of rows that a package offers by OData, in one page.

        Iterating raises `NotFoundError` for an unknown iTwin or package, or one without OData.
        Platform page: https://developer.bentley.com/apis/edfs/operations/packages-uniqueName-itwins-iTwinId-odata/
        """
        request = LIST_ENTITY_SETS.request(itwin_id=itwin_id, unique_name=unique_name)
        return self._list(request)

    @overload
    def list_entities(
        self,
        itwin_id: Id,
        unique_name: str,
        entity_set: str,
        row_type: None = None,
        *,
        select: str | None = None,
        filter: str | None = None,
        orderby: str | None = None,
        page_size: int | None = None,
    ) -> Pager[dict[str, Any]]: ...
    @overload
    def list_entities(
        self,
        itwin_id: Id,
        unique_name: str,
        entity_set: str,
        row_type: type[T],
        *,
        select: str | None = None,
        filter: str | None = None,
        orderby: str | None = None,
        page_size: int | None = None,
    ) -> Pager[T]: ...
    @overload
    def list_entities(
        self,
        itwin_id: Id,
        unique_name: str,
        entity_set: str,
        row_type: UnionType,
        *,
        select: str | None = None,
        filter: str | None = None,
        orderby: str | None = None,
        page_size: int | None = None,
    ) -> Pager[Any]: ...
    def list_entities(
        self,
        itwin_id: Id,
        unique_name: str,
        entity_set: str,
        row_type: Any = None,
        *,
        select: str | None = None,
        filter: str | None = None,
        orderby: str | None = None,
        page_size: int | None = None,
    ) -> Pager[Any]:
        """The rows of an entity set, each as a ``row_type``; a dict where it is None.

        ``select``, ``filter`` and ``orderby`` are OData, such as ``Field1,Field2``,
        ``Field1 eq 'value1'`` and ``Field1 desc``. ``page_size`` is the platform's choice by
        default. A list ends with an empty page, unless the platform gives links. Iterating raises
        `NotFoundError` for an unknown iTwin, package or set, and `DecodeError` for a row that is no
        ``row_type``.
        Platform page: https://developer.bentley.com/apis/edfs/operations/packages-uniqueName-itwins-iTwinId-odata-entitySet/
        """
        for argument, value in (("select", select), ("filter", filter), ("orderby", orderby)):
            check_text(argument, value)
        check_count("page_size", page_size, optional=True)
        request = LIST_ENTITIES.request(
            itwin_id=itwin_id,
            unique_name=unique_name,
            entity_set=entity_set,
            query={"$select": select, "$filter": filter, "$orderby": orderby, "$top": page_size},
        )
        return self._list(
            request, _row_decoder(row_type), item_type=dict if row_type is None else row_type
        )


def name_value_pairs(variables: Mapping[str, str]) -> list[dict[str, str]]:
    """Variables in the platform's form."""
    mapping: object = variables
    if not isinstance(mapping, Mapping):
        raise TypeError(f"variables must be a mapping, not {type(mapping).__name__}")
    for name, value in variables.items():
        check_text("the name of a variable", name, optional=False)
        if not isinstance(value, str):
            raise TypeError(f"variable {name} must be a str, not {type(value).__name__}")
    return [{"name": name, "value": value} for name, value in variables.items()]


def _row_decoder(row_type: Any) -> Callable[[Sequence[msgspec.Raw]], list[Any]]:
    """A function that decodes rows to a type; a dict where it is None."""
    decode = decoder(dict if row_type is None else row_type).decode

    def build(entries: Sequence[msgspec.Raw]) -> list[Any]:
        try:
            return [decode(row) for row in entries]
        except NOT_DECODED as error:
            raise LIST_ENTITIES.decode_error(f"a row: {why_not_decoded(error)}") from None

    return build
