"""iTwin.js extensions of an account."""

from types import NoneType
from typing import ClassVar, Final

import msgspec

from itwin_async._core.operation import Operation
from itwin_async._core.records import Link, Record, last_segment
from itwin_async._core.validation import (
    Id,
    check_count,
    check_flag,
    check_id,
    check_text,
    quote_segment,
)
from itwin_async._pagination.operation_group import OperationGroup
from itwin_async._pagination.page_types import LinkedPage
from itwin_async._pagination.pager import Pager


class ExtensionLinks(Record, frozen=True, kw_only=True):
    """Links of an extension."""

    itwin: Link | None = None
    versions: Link | None = None

    _repr_fields: ClassVar = ("itwin", "versions")


class Extension(Record, frozen=True, kw_only=True):
    """An extension. ``itwin_id`` is its account, read from its link where that is all there is."""

    id: str
    name: str
    description: str | None = None
    itwin_id: str | None = None
    links: ExtensionLinks | None = None

    _repr_fields: ClassVar = ("name", "id")

    def __post_init__(self) -> None:
        if self.itwin_id is None and self.links is not None:
            msgspec.structs.force_setattr(self, "itwin_id", last_segment(self.links.itwin))


class ExtensionPage(LinkedPage[Extension]):
    """A page of extensions."""

    extensions: list[Extension]


class ExtensionBody(msgspec.Struct):
    """The response with one extension."""

    extension: Extension


LIST_EXTENSIONS: Final = Operation("GET", "/extensions/", ExtensionPage)
CREATE_EXTENSION: Final = Operation("POST", "/extensions/", ExtensionBody)
DELETE_EXTENSION: Final = Operation("DELETE", "/extensions/{extension_id}", NoneType)


class ExtensionOperations(OperationGroup):
    """Operations on extensions."""

    def list_extensions(
        self,
        *,
        itwin_id: Id | None = None,
        search: str | None = None,
        is_itwin_studio_app: bool | None = None,
        page_size: int | None = None,
    ) -> Pager[Extension]:
        """Extensions: private ones of the account ``itwin_id``, else the public ones.

        ``search`` is a part of the name; ``is_itwin_studio_app`` restricts to Studio apps;
        ``page_size`` is 100 by default, without a documented maximum. Iterating raises
        `NotFoundError` for an unknown iTwin and `InvalidRequestError` for what is no GUID.
        Platform page: https://developer.bentley.com/apis/extensions/operations/get-extensions/

        Example::

            async for extension in itwin.extensions.list_extensions(search="map"):
                print(extension.id, extension.name)
        """
        if itwin_id is not None:
            quote_segment("itwin_id", itwin_id)
        check_text("search", search)
        check_flag("is_itwin_studio_app", is_itwin_studio_app, optional=True)
        check_count("page_size", page_size, optional=True)
        request = LIST_EXTENSIONS.request(
            query={
                "iTwinId": itwin_id,
                "search": search,
                "isITwinStudioApp": is_itwin_studio_app,
                "$top": page_size,
            }
        )
        return self._list(request)

    async def create_extension(
        self, name: str, itwin_id: Id, *, description: str | None = None
    ) -> Extension:
        """Create a private extension in the account ``itwin_id`` (an iTwin of class Account).

        Raises `ConflictError` when the account has one of this name, `NotFoundError` for an unknown
        iTwin, `InvalidRequestError` for one that is no account. Not sent again where its outcome is
        unknown.
        Platform page: https://developer.bentley.com/apis/extensions/operations/create-private-extension/
        """
        check_text("name", name, optional=False)
        check_id("itwin_id", itwin_id, optional=False)
        check_text("description", description)
        body = {"name": name, "iTwinId": itwin_id}
        if description is not None:
            body["description"] = description
        response = await self._call(CREATE_EXTENSION.request(body=body))
        return response.extension

    async def delete_extension(self, extension_id: Id) -> None:
        """Delete an extension with all its versions and their files; meant for internal testing.

        Raises `NotFoundError` for an unknown extension.
        Platform page: https://developer.bentley.com/apis/extensions/operations/delete-extension/
        """
        await self._call(DELETE_EXTENSION.request(extension_id=extension_id))
