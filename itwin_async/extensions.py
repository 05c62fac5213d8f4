"""The Extensions API: iTwin.js extensions of an account, their versions, and the files of these."""

import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import NoneType
from typing import ClassVar, Final
from urllib.parse import unquote

import anyio
import msgspec

from itwin_async._aio.timeouts import Timeout
from itwin_async._core.operation import Operation
from itwin_async._core.records import Link, Record, assume_utc, last_segment
from itwin_async._core.redaction import one_line
from itwin_async._core.secrets import SecretStr
from itwin_async._core.validation import (
    check_callback,
    check_count,
    check_directory,
    check_flag,
    check_seconds,
    check_text,
    quote_segment,
)
from itwin_async._files.download import Download, OnDownloadProgress
from itwin_async._files.remote_files import RemoteFile
from itwin_async._pagination.operation_group import OperationGroup
from itwin_async._pagination.page_types import LinkedPage
from itwin_async._pagination.pager import Pager
from itwin_async.errors import ITwinError

_WAITING_FOR_UPLOAD: Final = "WaitingForUpload"  # the only documented status
_FIRST_POLL_INTERVAL: Final = 0.5  # seconds; doubled after each request
_MAX_POLL_INTERVAL: Final = 10.0


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


@dataclass(frozen=True, slots=True)
class DownloadedVersion:
    """The files of a version on this machine; ``main`` is the one to start with, as far as known.

    ``archive`` is there only where it was asked for.
    """

    number: str
    directory: Path
    files: tuple[Path, ...]
    main: Path | None = None
    archive: Path | None = None

    def __repr__(self) -> str:
        where = str(self.directory)
        where = where if len(where) <= 50 else f"…{where[-49:]}"
        return f"DownloadedVersion(number={self.number!r}, {len(self.files)} files in {where!r})"


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
    """The response with one extension."""

    extension: Extension


class VersionBody(msgspec.Struct):
    """The response with one version, whose links are beside it."""

    version: ExtensionVersion
    links: VersionLinks | None = msgspec.field(name="_links", default=None)


LIST_EXTENSIONS: Final = Operation("GET", "/extensions/", ExtensionPage)
CREATE_EXTENSION: Final = Operation("POST", "/extensions/", ExtensionBody)
DELETE_EXTENSION: Final = Operation("DELETE", "/extensions/{extension_id}", NoneType)
LIST_VERSIONS: Final = Operation("GET", "/extensions/{extension_id}/versions", VersionPage)
GET_VERSION: Final = Operation("GET", "/extensions/{extension_id}/versions/{number}", VersionBody)


class Extensions(OperationGroup):
    """Operations on extensions: ``itwin.extensions``."""

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
        self, name: str, itwin_id: str, *, description: str | None = None
    ) -> Extension:
        """Create a private extension in the account ``itwin_id`` (an iTwin of class Account).

        Raises `ConflictError` when the account has one of this name, `NotFoundError` for an unknown
        iTwin, `InvalidRequestError` for one that is no account. Not sent again where its outcome is
        unknown.
        Platform page: https://developer.bentley.com/apis/extensions/operations/create-private-extension/
        """
        for argument, value in (("name", name), ("itwin_id", itwin_id)):
            check_text(argument, value, optional=False)
        check_text("description", description)
        body = {"name": name, "iTwinId": itwin_id}
        if description is not None:
            body["description"] = description
        response = await self._call(CREATE_EXTENSION.request(body=body))
        return response.extension

    async def delete_extension(self, extension_id: str) -> None:
        """Delete an extension with all its versions and their files; meant for internal testing.

        Raises `NotFoundError` for an unknown extension.
        Platform page: https://developer.bentley.com/apis/extensions/operations/delete-extension/
        """
        await self._call(DELETE_EXTENSION.request(extension_id=extension_id))

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
        request = LIST_VERSIONS.request(
            extension_id=extension_id,
            query={"includeDeprecated": include_deprecated or None, "$top": page_size},
        )
        return self._list(request)

    async def get_version(self, extension_id: str, number: str) -> ExtensionVersion:
        """One version with its files; ``number`` is a semantic version such as ``1.0.0``.

        Raises `NotFoundError` for an unknown extension or version.
        Platform page: https://developer.bentley.com/apis/extensions/operations/get-extension-version/
        """
        body = await self._call(GET_VERSION.request(extension_id=extension_id, number=number))
        return msgspec.structs.replace(body.version, links=body.links)

    async def wait_until_ready(
        self,
        extension_id: str,
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
        limit = _ReadyTimeout(timeout, f"version {number} was not ready in {timeout:g} s")
        interval = _FIRST_POLL_INTERVAL
        try:
            with limit:
                while True:
                    limit.version = version = await self.get_version(extension_id, number)
                    if version.files and version.status != _WAITING_FOR_UPLOAD:
                        return version
                    await anyio.sleep(interval)
                    interval = min(_MAX_POLL_INTERVAL, interval * 2)
        finally:
            limit.cancel()

    async def download_version(
        self,
        extension_id: str,
        number: str,
        directory: str | os.PathLike[str],
        *,
        archive: bool = False,
        overwrite: bool = False,
        resume: bool = False,
        on_progress: OnDownloadProgress | None = None,
    ) -> DownloadedVersion:
        """Download the files of a version to a directory, and its archive where asked for.

        All of them or none: files get their names when every one has arrived with the SHA-256 that
        the platform says; after an error or a cancellation none of them is there, and what
        ``overwrite`` replaced is there again. A process that is killed meanwhile leaves a journal
        in a hidden directory; the next download to the same directory puts everything back first.

        As many are fetched at once as the session's limiter allows, without the token. A file that
        was cut goes on where it was, and ended URLs are renewed once. The session's ``timeout`` and
        ``max_body`` (bytes) hold for each file. With ``resume`` what has arrived outlives an error,
        a cancellation or the process, in the hidden directory, and the same call goes on with it.
        ``on_progress`` is called in the event loop with `DownloadProgress` as bytes arrive; if it
        raises, that is logged, and the download goes on without it.

        The directory is made if missing; a file that is there already is a `FileExistsError`,
        unless ``overwrite``. Does not wait: a version without files is an `ITwinError`, see
        `wait_until_ready`.

        Raises `DecodeError` for wrong checksums and for paths that may lead out of the directory
        (absolute ones, ``..``, drives, links on the way), `LinkError` for URLs that are not https,
        `ResponseError` for what the storage refuses, `RuntimeError` while the same download with
        ``resume`` is running, and what `get_version` raises.
        Platform page: https://developer.bentley.com/apis/extensions/operations/get-extension-version/
        """
        check_directory(directory)
        check_flag("archive", archive)
        check_flag("overwrite", overwrite)
        check_flag("resume", resume)
        check_callback("on_progress", on_progress)
        version = await self.get_version(extension_id, number)

        async def renew() -> list[RemoteFile]:
            return _remote_files(await self.get_version(extension_id, number), archive=archive)

        path = Path(directory)
        try:
            remote_files = _remote_files(version, archive=archive)
            download = Download(
                self._executor,
                remote_files,
                renew,
                path,
                overwrite=overwrite,
                resume=resume,
                on_progress=on_progress,
            )
            paths = await download.run()
        except ITwinError as error:
            error.operation = error.operation or str(GET_VERSION)
            raise
        main = next((file.relative_path for file in version.files if file.is_main), None)
        whole = paths.pop(remote_files[-1].path) if archive else None
        files = tuple(paths.values())
        return DownloadedVersion(version.number, path, files, paths[main] if main else None, whole)


class _ReadyTimeout(Timeout):
    """The timeout of waiting for a version; its error says what state the version was in."""

    version: ExtensionVersion | None = None

    def error(self) -> TimeoutError:
        """The error, with the last known state of the version."""
        state = "there was no answer" if self.version is None else _state(self.version)
        return TimeoutError(one_line(f"{self.message}: {state}"))


def _remote_files(version: ExtensionVersion, *, archive: bool) -> list[RemoteFile]:
    """The files of a version to download. The archive is last, named by its URL."""
    if not version.files:
        raise ITwinError(one_line(f"version {version.number} has no files: {_state(version)}"))
    remote_files = [_remote(file, file.relative_path) for file in version.files]
    if archive:
        if version.archive_file is None:
            raise ITwinError(one_line(f"version {version.number} has no archive"))
        path = (version.archive_file.download_url or "").partition("?")[0]
        remote_files.append(_remote(version.archive_file, unquote(path.rpartition("/")[2])))
    return remote_files


def _remote(file: ExtensionFile, path: str | None) -> RemoteFile:
    sha256 = None if file.checksum is None else file.checksum.sha256
    url = None if file.download_url is None else SecretStr(file.download_url)
    return RemoteFile(path or "", url, file.download_url_expires_at, sha256)


def _state(version: ExtensionVersion) -> str:
    message = f" ({version.status_message})" if version.status_message else ""
    return f"its status is {version.status}{message}"
