"""Pushes of changesets: announced, uploaded without the token, confirmed."""

import os
import re
from pathlib import Path
from typing import Final

from itwin_async._aio.threads import in_thread
from itwin_async._core.operation import Operation, without_none
from itwin_async._core.validation import (
    Id,
    check_callback,
    check_count,
    check_file,
    check_id,
    check_text,
    check_type,
    quote_segment,
)
from itwin_async._files.progress import OnUploadProgress
from itwin_async._files.upload import FileSource, Upload
from itwin_async._pagination.operation_group import OperationGroup
from itwin_async.imodels.changesets import Changeset, ChangesetBody, SynchronizationInfo
from itwin_async.imodels.imodels import LONGEST_TEXT

_ID: Final = re.compile(r"[0-9a-fA-F]{40}")
_UPLOADED: Final = "fileUploaded"
CREATE_CHANGESET: Final = Operation(
    "POST", "/imodels/{imodel_id}/changesets", ChangesetBody, version="v2"
)
CONFIRM_CHANGESET: Final = Operation(
    "PATCH", "/imodels/{imodel_id}/changesets/{changeset_id}", ChangesetBody, version="v2"
)


class ChangesetPushes(OperationGroup):
    """Operations that push changesets."""

    async def push_changeset(
        self,
        imodel_id: Id,
        path: str | os.PathLike[str],
        changeset_id: str,
        briefcase_id: int,
        *,
        parent_id: str | None = None,
        description: str | None = None,
        containing_changes: int = 0,
        synchronization_info: SynchronizationInfo | None = None,
        group_id: Id | None = None,
        on_progress: OnUploadProgress | None = None,
    ) -> Changeset:
        """Push a changeset: announce it, upload its file without the token, and confirm it.

        ``path`` is the file, which an application of iTwin.js has made. ``on_progress`` is called
        in the event loop with `UploadProgress` as bytes go out; if it raises, that is logged, and
        the upload goes on without it. The other arguments are those of `create_changeset`.

        Raises what `create_changeset` and `confirm_changeset` raise, `OSError` where the file
        cannot be read, `ValueError` where it is empty, and `ResponseError` for what the storage
        refuses. The changeset is pushed when it is confirmed: calling it again after a failure
        announces it anew, and a `ConflictError` with the code ChangesetExists means that it had
        been pushed.
        Platform page: https://developer.bentley.com/apis/imodels-v2/operations/create-imodel-changeset/

        Example::

            path.write_bytes(b"...")
            briefcase = await itwin.imodels.acquire_briefcase(imodel_id)
            last = await itwin.imodels.list_changesets(imodel_id, order="desc").first()
            changeset = await itwin.imodels.push_changeset(
                imodel_id, path, "ab" * 20, briefcase.briefcase_id, parent_id=last.id
            )
        """
        check_file("path", path)
        check_callback("on_progress", on_progress)
        source = FileSource(Path(path))
        try:
            await in_thread(source.open)
            changeset = await self.create_changeset(
                imodel_id,
                changeset_id,
                briefcase_id,
                source.size,
                parent_id=parent_id,
                description=description,
                containing_changes=containing_changes,
                synchronization_info=synchronization_info,
                group_id=group_id,
            )
            link = None if changeset.links is None else changeset.links.upload
            await Upload(self._executor, source, link, on_progress).run()
        finally:
            await in_thread(source.close)
        return await self.confirm_changeset(imodel_id, changeset.id, briefcase_id)

    async def create_changeset(
        self,
        imodel_id: Id,
        changeset_id: str,
        briefcase_id: int,
        file_size: int,
        *,
        parent_id: str | None = None,
        description: str | None = None,
        containing_changes: int = 0,
        synchronization_info: SynchronizationInfo | None = None,
        group_id: Id | None = None,
    ) -> Changeset:
        """Announce a changeset, whose file then goes to ``links.upload`` before it is confirmed.

        `push_changeset` does all three. ``changeset_id`` has 40 hexadecimal digits, ``file_size``
        is in bytes. ``parent_id`` is the last changeset of the iModel, None for the first.
        ``description`` has up to 255 characters, ``containing_changes`` is the sum of flags that a
        `Changeset` has, ``group_id`` the changeset group it belongs to.

        Raises `NewerChangesError` where ``parent_id`` is not the last one any more,
        `ConflictError` where the changeset exists or another user is pushing, and `NotFoundError`
        for an unknown iModel, briefcase or group. Not sent again where its outcome is unknown.
        Platform page: https://developer.bentley.com/apis/imodels-v2/operations/create-imodel-changeset/
        """
        for name, value in (("changeset_id", changeset_id), ("parent_id", parent_id)):
            if name == "changeset_id" or value:
                quote_segment(name, value)
                if _ID.fullmatch(value or "") is None:
                    raise ValueError(f"{name} must have 40 hexadecimal digits")
        check_count("briefcase_id", briefcase_id)
        check_count("file_size", file_size)
        check_text("description", description, longest=LONGEST_TEXT)
        check_count("containing_changes", containing_changes, least=0)
        check_type("synchronization_info", synchronization_info, SynchronizationInfo)
        check_id("group_id", group_id, optional=group_id is None)
        run = synchronization_info
        if run is not None and (not run.task_id or run.changed_files == ()):
            raise ValueError(
                "synchronization_info needs a task_id, and changed_files that are not empty"
            )
        body = without_none(
            id=changeset_id,
            description=description,
            parentId=parent_id or None,
            briefcaseId=briefcase_id,
            containingChanges=containing_changes,
            fileSize=file_size,
            synchronizationInfo=run
            and without_none(taskId=run.task_id, changedFiles=run.changed_files),
            groupId=group_id,
        )
        request = CREATE_CHANGESET.request(imodel_id=imodel_id, body=body)
        return (await self._call(request)).changeset

    async def confirm_changeset(
        self, imodel_id: Id, changeset_id: str, briefcase_id: int
    ) -> Changeset:
        """Say that the file of a changeset was uploaded; with that it is pushed.

        `push_changeset` does this. The answer has no ``download`` and no
        ``synchronization_info`` yet. Raises `NotFoundError` for an unknown changeset or briefcase
        and where the file is missing, and `ConflictError` where it has another size than announced.
        Platform page: https://developer.bentley.com/apis/imodels-v2/operations/create-imodel-changeset/
        """
        check_count("briefcase_id", briefcase_id)
        body = {"state": _UPLOADED, "briefcaseId": briefcase_id}
        request = CONFIRM_CHANGESET.request(
            imodel_id=imodel_id, changeset_id=changeset_id, body=body
        )
        return (await self._call(request)).changeset
