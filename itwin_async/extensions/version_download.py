"""The files of a version on this machine."""

import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from itwin_async._core.redaction import one_line
from itwin_async._core.secrets import SecretStr
from itwin_async._core.validation import Id, check_callback, check_directory, check_flag
from itwin_async._files.download import Download
from itwin_async._files.progress import OnDownloadProgress
from itwin_async._files.remote_files import RemoteFile
from itwin_async.errors import ITwinError
from itwin_async.extensions.versions import (
    GET_VERSION,
    ExtensionFile,
    ExtensionVersion,
    VersionOperations,
    state_of,
)


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


class VersionDownloads(VersionOperations):
    """Downloads of versions, beside their operations."""

    async def download_version(
        self,
        extension_id: Id,
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


def _remote_files(version: ExtensionVersion, *, archive: bool) -> list[RemoteFile]:
    """The files of a version to download. The archive is last, named by its URL."""
    if not version.files:
        raise ITwinError(one_line(f"version {version.number} has no files: {state_of(version)}"))
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
