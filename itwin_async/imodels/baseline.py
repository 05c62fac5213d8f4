"""Baseline files of iModels, and iModels that are made of them."""

import os
from pathlib import Path
from types import NoneType
from typing import ClassVar, Final

import msgspec

from itwin_async._aio.polling import poll
from itwin_async._aio.threads import in_thread
from itwin_async._core.operation import Operation
from itwin_async._core.records import Link, Record
from itwin_async._core.redaction import one_line
from itwin_async._core.validation import Id, check_callback, check_file
from itwin_async._files.progress import OnUploadProgress
from itwin_async._files.upload import FileSource, Upload
from itwin_async.errors import ITwinError
from itwin_async.imodels.copies import CopyOperations
from itwin_async.imodels.creation import (
    CREATE_IMODEL,
    INITIALIZED,
    TIMEOUT,
    check_wait,
    new_imodel,
)
from itwin_async.imodels.imodels import Extent, IModel

_UNDER_WAY: Final = frozenset({"waitingForFile", "initializationScheduled"})


class BaselineFileLinks(Record, frozen=True, kw_only=True):
    """Links of a baseline file. ``download`` is signed, and None without permission to download."""

    creator: Link | None = None
    download: Link | None = None

    _repr_fields: ClassVar = ("creator", "download")
    _signed: ClassVar = ("download",)


class BaselineFile(Record, frozen=True, kw_only=True):
    """The file that an iModel begins with; ``file_size`` is in bytes.

    ``state`` is ``waitingForFile``, ``initializationScheduled``, ``initialized``,
    ``initializationFailed``, or ``fileIsBriefcase`` of a file that cannot be one.
    """

    id: str | None = None
    display_name: str | None = None
    file_size: int | None = None
    state: str | None = None
    links: BaselineFileLinks | None = None

    _repr_fields: ClassVar = ("display_name", "state", "file_size")


class BaselineFileBody(msgspec.Struct, rename="camel"):
    """The response with a baseline file."""

    baseline_file: BaselineFile


GET_BASELINE_FILE: Final = Operation(
    "GET", "/imodels/{imodel_id}/baselinefile", BaselineFileBody, version="v2"
)
CONFIRM_BASELINE_FILE: Final = Operation(
    "POST", "/imodels/{imodel_id}/baselinefile", NoneType, version="v2"
)


class BaselineOperations(CopyOperations):
    """Operations on baseline files."""

    async def create_imodel_from_baseline(
        self,
        itwin_id: Id,
        name: str,
        path: str | os.PathLike[str],
        *,
        description: str | None = None,
        extent: Extent | None = None,
        containers_enabled: int | None = None,
        wait: bool = True,
        timeout: float = TIMEOUT,  # noqa: ASYNC109 - its error says what the state was
        on_progress: OnUploadProgress | None = None,
    ) -> IModel:
        """Create an iModel that begins with a file on this machine, such as one made by iTwin.js.

        Creates the iModel, uploads the file as it is read from the disk, without the token, and
        confirms it. ``on_progress`` is called in the event loop with `UploadProgress` as bytes go
        out; if it raises, that is logged, and the upload goes on without it. The other arguments
        are those of `create_imodel`; ``timeout`` is for the wait after the upload.

        Raises what `create_imodel` raises, `OSError` where the file cannot be read, `ValueError`
        where it is empty, and `ResponseError` for what the storage refuses. After a failure behind
        its creation the iModel is there without a file; the error's message names it, and
        `delete_imodel` frees its name.
        Platform page: https://developer.bentley.com/apis/imodels-v2/operations/create-imodel/

        Example::

            path.write_bytes(b"...")
            imodel = await itwin.imodels.create_imodel_from_baseline(itwin_id, "Bridge", path)
        """
        check_file("path", path)
        check_wait(wait, timeout)
        check_callback("on_progress", on_progress)
        body = new_imodel(itwin_id, name, description, extent, containers_enabled)
        body["creationMode"] = "fromBaseline"
        source = FileSource(Path(path))
        try:
            await in_thread(source.open)
            body["baselineFile"] = {"size": source.size}
            imodel = (await self._call(CREATE_IMODEL.request(body=body))).imodel
            try:
                await self._upload_baseline(imodel, source, on_progress)
                if not wait:
                    return imodel
                await self._wait_until_initialized(imodel.id, timeout)
            except ITwinError as error:
                error.operation = error.operation or str(CREATE_IMODEL)
                error.message += f"; iModel {imodel.id} was created, and is without a usable file"
                raise
            except OSError as error:
                error.add_note(f"iModel {imodel.id} was created, and is without a usable file")
                raise
        finally:
            await in_thread(source.close)
        return await self.get_imodel(imodel.id)

    async def get_baseline_file(self, imodel_id: Id) -> BaselineFile:
        """The file that an iModel begins with. Raises `NotFoundError` where there is none.

        Platform page: https://developer.bentley.com/apis/imodels-v2/operations/get-imodel-baseline-file-details/

        Example::

            baseline = await itwin.imodels.get_baseline_file(imodel_id)
            print(baseline.state, baseline.file_size)
        """
        answer = await self._call(GET_BASELINE_FILE.request(imodel_id=imodel_id))
        return answer.baseline_file

    async def confirm_baseline_file(self, imodel_id: Id) -> None:
        """Say that the baseline file of an iModel was uploaded.

        `create_imodel_from_baseline` does this; it is for a file that you uploaded yourself to
        ``links.upload`` of a new iModel. Raises `ConflictError` where the file has another size
        than was announced, and `NotFoundError` for an unknown iModel.
        Platform page: https://developer.bentley.com/apis/imodels-v2/operations/create-imodel/
        """
        await self._call(CONFIRM_BASELINE_FILE.request(imodel_id=imodel_id, body={}))

    async def _upload_baseline(
        self, imodel: IModel, source: FileSource, on_progress: OnUploadProgress | None
    ) -> None:
        link = None if imodel.links is None else imodel.links.upload
        await Upload(self._executor, source, link, on_progress).run()
        await self.confirm_baseline_file(imodel.id)

    async def _wait_until_initialized(self, imodel_id: Id, timeout: float) -> None:  # noqa: ASYNC109
        def is_initialized(baseline: BaselineFile) -> bool:
            if baseline.state != INITIALIZED and baseline.state not in _UNDER_WAY:
                error = ITwinError(one_line(f"the state of the baseline file is {baseline.state}"))
                error.operation = str(GET_BASELINE_FILE)
                raise error
            return baseline.state == INITIALIZED

        await poll(
            lambda: self.get_baseline_file(imodel_id),
            is_initialized,
            timeout=timeout,
            what=f"the baseline file of iModel {imodel_id} was not initialized",
            state_of=lambda baseline: one_line(f"its state is {baseline.state}"),
        )
