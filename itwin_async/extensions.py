"""The Extensions API: iTwin.js extensions of an account, and their versions."""

from datetime import datetime
from typing import ClassVar, Final

import msgspec

from itwin_async._exchange import Exchange
from itwin_async._operation import Operation, check_count, check_flag, check_text, quoted
from itwin_async._pages import LinkedPage, Listing
from itwin_async._paging import Pager
from itwin_async._records import Link, Record, last_segment, make_aware


class ExtensionLinks(Record, frozen=True, kw_only=True):
    """Links of an extension."""

    itwin: Link | None = None
    versions: Link | None = None

    _shown: ClassVar = ("itwin", "versions")


class Extension(Record, frozen=True, kw_only=True):
    """An extension. ``itwin_id`` is its account, read from its link where that is all there is."""

    id: str
    name: str
    description: str | None = None
    itwin_id: str | None = None
    links: ExtensionLinks | None = None

    _shown: ClassVar = ("name", "id")

    def __post_init__(self) -> None:
        if self.itwin_id is None and self.links is not None:
            msgspec.structs.force_setattr(self, "itwin_id", last_segment(self.links.itwin))


class Checksum(Record, frozen=True, kw_only=True):
    """The checksum of a file: hexadecimal SHA-256."""

    sha256: str | None = None

    _shown: ClassVar = ("sha256",)


class ExtensionFile(Record, frozen=True, kw_only=True):
    """A file of a version, or its archive (which has no ``relative_path``).

    ``download_url`` is signed: it needs no token, and must be kept as secret as one.
    """

    download_url: str | None = None
    download_url_expires_at: datetime | None = None
    checksum: Checksum | None = None
    relative_path: str | None = None
    is_main: bool = False

    _shown: ClassVar = ("relative_path", "is_main", "download_url_expires_at")

    def __post_init__(self) -> None:
        make_aware(self, "download_url_expires_at")


class ExtensionInfo(Record, frozen=True, kw_only=True):
    """Which extension a version belongs to."""

    name: str | None = None
    description: str | None = None

    _shown: ClassVar = ("name",)


class VersionLinks(Record, frozen=True, kw_only=True):
    """Links of a version."""

    itwin: Link | None = None
    self_: Link | None = None

    _shown: ClassVar = ("itwin", "self_")


class ExtensionVersion(Record, frozen=True, kw_only=True):
    """A version of an extension.

    ``status`` is the platform's word; ``WaitingForUpload`` is the only documented one. ``files`` is
    empty until the archive was uploaded and unpacked, and in lists.
    """

    number: str
    extension: ExtensionInfo | None = None
    archive_file: ExtensionFile | None = None
    files: tuple[ExtensionFile, ...] = ()
    status: str | None = None
    status_message: str | None = None
    deprecated: bool = False
    creation_time: datetime | None = None
    last_update_time: datetime | None = None
    links: VersionLinks | None = None

    _shown: ClassVar = ("number", "status", "deprecated", "extension")

    def __post_init__(self) -> None:
        make_aware(self, "creation_time", "last_update_time")


class ExtensionPage(LinkedPage[Extension]):
    """A page of extensions."""

    extensions: list[Extension]

    def entries(self) -> list[Extension]:
        """The extensions."""
        return self.extensions


class VersionPage(LinkedPage[ExtensionVersion]):
    """A page of versions; each carries its own links."""

    versions: list[ExtensionVersion]

    def entries(self) -> list[ExtensionVersion]:
        """The versions."""
        return self.versions


class ExtensionBody(msgspec.Struct):
    """The answer with one extension."""

    extension: Extension


class VersionBody(msgspec.Struct):
    """The answer with one version, whose links stand beside it."""

    version: ExtensionVersion
    links: VersionLinks | None = msgspec.field(name="_links", default=None)


LIST_EXTENSIONS: Final = Operation("GET", "/extensions/", ExtensionPage)
CREATE_EXTENSION: Final = Operation("POST", "/extensions/", ExtensionBody)
LIST_VERSIONS: Final = Operation("GET", "/extensions/{extension_id}/versions", VersionPage)
GET_VERSION: Final = Operation("GET", "/extensions/{extension_id}/versions/{number}", VersionBody)


class Extensions:
    """Operations on extensions: ``itwin.extensions``."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def list_extensions(
        self,
        *,
        itwin_id: str | None = None,
        search: str | None = None,
        is_itwin_studio_app: bool | None = None,
        page_size: int | None = None,
    ) -> Pager[Extension]:
        """Extensions: private ones of the account ``itwin_id``, else the public ones.

        ``search`` is a part of the name; ``is_itwin_studio_app`` restricts to Studio apps;
        ``page_size`` is 100 by default, without a documented maximum. Iterating raises
        `NotFoundError` for an unknown iTwin and `InvalidRequestError` for what is no GUID.
        Platform page: https://developer.bentley.com/apis/extensions/operations/get-extensions/
        """
        if itwin_id is not None:
            quoted("itwin_id", itwin_id)
        check_text("search", search)
        check_flag("is_itwin_studio_app", is_itwin_studio_app, optional=True)
        check_count("page_size", page_size, optional=True)
        request = LIST_EXTENSIONS.at(
            query={
                "iTwinId": itwin_id,
                "search": search,
                "isITwinStudioApp": is_itwin_studio_app,
                "$top": page_size,
            }
        )
        return Pager(self._exchange, Listing(request, list))

    async def create_extension(
        self, name: str, itwin_id: str, *, description: str | None = None
    ) -> Extension:
        """Create a private extension in the account ``itwin_id`` (an iTwin of class Account).

        Raises `ConflictError` when the account has one of this name, `NotFoundError` for an unknown
        iTwin, `InvalidRequestError` for one that is no account. Never sent twice in doubt.
        Platform page: https://developer.bentley.com/apis/extensions/operations/create-private-extension/
        """
        for argument, value in (("name", name), ("itwin_id", itwin_id)):
            check_text(argument, value, optional=False)
        check_text("description", description)
        body = {"name": name, "iTwinId": itwin_id}
        if description is not None:
            body["description"] = description
        answer = await self._exchange.call(CREATE_EXTENSION.at(body=body))
        return answer.extension

    def list_versions(
        self,
        extension_id: str,
        *,
        include_deprecated: bool = False,
        page_size: int | None = None,
    ) -> Pager[ExtensionVersion]:
        """Versions of an extension, without the deprecated ones unless asked for.

        ``page_size`` is 100 by default, without a documented maximum. Iterating raises
        `NotFoundError` for an unknown extension.
        Platform page: https://developer.bentley.com/apis/extensions/operations/get-extension-versions/
        """
        check_flag("include_deprecated", include_deprecated)
        check_count("page_size", page_size, optional=True)
        request = LIST_VERSIONS.at(
            extension_id=extension_id,
            query={"includeDeprecated": include_deprecated or None, "$top": page_size},
        )
        return Pager(self._exchange, Listing(request, list))

    async def get_version(self, extension_id: str, number: str) -> ExtensionVersion:
        """One version with its files; ``number`` is a semantic version such as ``1.0.0``.

        Raises `NotFoundError` for an unknown extension or version.
        Platform page: https://developer.bentley.com/apis/extensions/operations/get-extension-version/
        """
        answer = await self._exchange.call(GET_VERSION.at(extension_id=extension_id, number=number))
        return msgspec.structs.replace(answer.version, links=answer.links)
