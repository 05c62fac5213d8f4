"""Versions of an extension, and their files on the platform."""

from datetime import datetime
from typing import ClassVar, Final

import msgspec

from itwin_async._aio.polling import poll
from itwin_async._core.operation import Operation
from itwin_async._core.records import Link, Record, assume_utc
from itwin_async._core.redaction import one_line
from itwin_async._core.validation import Id, check_count, check_flag, check_seconds
from itwin_async._pagination.operation_group import OperationGroup
from itwin_async._pagination.page_types import LinkedPage
from itwin_async._pagination.pager import Pager

_WAITING_FOR_UPLOAD: Final = "WaitingForUpload"  # the only documented status
_FIRST_POLL_INTERVAL: Final = 0.5  # seconds


class Checksum(Record, frozen=True, kw_only=True):
    """The checksum of a file: hexadecimal SHA-256."""

    sha256: str | None = None

    _repr_fields: ClassVar = ("sha256",)


class ExtensionFile(Record, frozen=True, kw_only=True):
    """A file of a version, or its archive (which has no ``relative_path``).

    ``download_url`` is signed: it needs no token, and must be kept as secret as one.
    """

    download_url: str | None = None
    download_url_expires_at: datetime | None = None
    checksum: Checksum | None = None
    relative_path: str | None = None
    is_main: bool = False

    _repr_fields: ClassVar = ("relative_path", "is_main", "download_url_expires_at")
    _signed: ClassVar = ("download_url",)

    def __post_init__(self) -> None:
        assume_utc(self, "download_url_expires_at")


class ExtensionInfo(Record, frozen=True, kw_only=True):
    """Which extension a version belongs to."""

    name: str | None = None
    description: str | None = None

    _repr_fields: ClassVar = ("name",)


class VersionLinks(Record, frozen=True, kw_only=True):
    """Links of a version."""

    itwin: Link | None = None
    self_: Link | None = None

    _repr_fields: ClassVar = ("itwin", "self_")


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

    _repr_fields: ClassVar = ("number", "status", "deprecated", "extension")

    def __post_init__(self) -> None:
        assume_utc(self, "creation_time", "last_update_time")


class VersionPage(LinkedPage[ExtensionVersion]):
    """A page of versions; each carries its own links."""

    versions: list[ExtensionVersion]


class VersionBody(msgspec.Struct):
    """The response with one version, whose links are beside it."""

    version: ExtensionVersion
    links: VersionLinks | None = msgspec.field(name="_links", default=None)


LIST_VERSIONS: Final = Operation("GET", "/extensions/{extension_id}/versions", VersionPage)
GET_VERSION: Final = Operation("GET", "/extensions/{extension_id}/versions/{number}", VersionBody)


class VersionOperations(OperationGroup):
    """Operations on versions."""

    def list_versions(
        self,
        extension_id: Id,
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
        request = LIST_VERSIONS.request(
            extension_id=extension_id,
            query={"includeDeprecated": include_deprecated or None, "$top": page_size},
        )
        return self._list(request, age_key=lambda version: version.number)

    async def get_version(self, extension_id: Id, number: str) -> ExtensionVersion:
        """One version with its files; ``number`` is a semantic version such as ``1.0.0``.

        Raises `NotFoundError` for an unknown extension or version.
        Platform page: https://developer.bentley.com/apis/extensions/operations/get-extension-version/
        """
        body = await self._call(GET_VERSION.request(extension_id=extension_id, number=number))
        return msgspec.structs.replace(body.version, links=body.links)

    async def wait_until_ready(
        self,
        extension_id: Id,
        number: str,
        *,
        timeout: float = 300.0,  # noqa: ASYNC109 - its error says what the version was waiting for
    ) -> ExtensionVersion:
        """Wait until the archive of a version was uploaded and unpacked, when it has files.

        Requests the version at growing intervals of up to 10 seconds, whatever its status is
        called. Raises `TimeoutError` after ``timeout`` seconds, and what `get_version` raises.
        Platform page: https://developer.bentley.com/apis/extensions/operations/get-extension-version/
        """
        check_seconds("timeout", timeout, finite=False)
        return await poll(
            lambda: self.get_version(extension_id, number),
            lambda version: bool(version.files) and version.status != _WAITING_FOR_UPLOAD,
            timeout=timeout,
            what=f"version {number} was not ready",
            state_of=state_of,
            interval=_FIRST_POLL_INTERVAL,
        )


def state_of(version: ExtensionVersion) -> str:
    """The status of a version with its message, for an error."""
    message = f" ({version.status_message})" if version.status_message else ""
    return one_line(f"its status is {version.status}{message}")
