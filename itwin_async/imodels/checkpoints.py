"""Checkpoints: iModels as they were at a changeset, ready to be opened."""

from typing import ClassVar, Final

import msgspec

from itwin_async._core.operation import Operation
from itwin_async._core.records import Link, Record
from itwin_async._core.validation import Id
from itwin_async._pagination.operation_group import OperationGroup
from itwin_async.imodels.changesets import id_or_index


class AzureAccess(Record, frozen=True, kw_only=True):
    """Access to a directory of Azure's storage. The token is a secret: no repr shows it."""

    sas_token: str | None = None

    _signed: ClassVar = ("sas_token",)


class GoogleAccess(Record, frozen=True, kw_only=True):
    """Access to a directory of Google's storage. The value is a secret: no repr shows it."""

    authorization: str | None = None

    _signed: ClassVar = ("authorization",)


class DirectoryAccess(Record, frozen=True, kw_only=True):
    """How to open a checkpoint block by block, without downloading it.

    ``storage_type`` is ``azure`` or ``google``, and the attribute of that name has the access,
    which ends after a while.
    """

    base_url: str | None = None
    storage: str | None = None
    base_directory: str | None = None
    storage_type: str | None = None
    azure: AzureAccess | None = None
    google: GoogleAccess | None = None

    _repr_fields: ClassVar = ("base_url", "base_directory", "storage_type")


class CheckpointLinks(Record, frozen=True, kw_only=True):
    """Links of a checkpoint. ``download`` is signed, and None until the checkpoint is ready."""

    download: Link | None = None

    _repr_fields: ClassVar = ("download",)
    _signed: ClassVar = ("download",)


class Checkpoint(Record, frozen=True, kw_only=True):
    """An iModel as it was at a changeset. An index of 0 is the baseline.

    ``state`` is ``successful``, ``scheduled``, ``failed`` or ``notGenerated``. ``size`` is in
    bytes, 0 until it is ready, and so are ``directory_access_info`` and the download None.
    """

    changeset_index: int
    changeset_id: str | None = None
    size: int | None = None
    state: str | None = None
    db_name: str | None = None
    directory_access_info: DirectoryAccess | None = None
    links: CheckpointLinks | None = None

    _repr_fields: ClassVar = ("changeset_index", "state", "size")


class CheckpointBody(msgspec.Struct):
    """The response with one checkpoint."""

    checkpoint: Checkpoint


_NAMED: Final = "/imodels/{imodel_id}/namedversions/{named_version_id}/checkpoint"
GET_CHANGESET_CHECKPOINT: Final = Operation(
    "GET", "/imodels/{imodel_id}/changesets/{changeset}/checkpoint", CheckpointBody, version="v2"
)
GET_NAMED_VERSION_CHECKPOINT: Final = Operation("GET", _NAMED, CheckpointBody, version="v2")
GET_LATEST_CHECKPOINT: Final = Operation(
    "GET", "/imodels/{imodel_id}/briefcases/checkpoint", CheckpointBody, version="v2"
)
GENERATE_CHECKPOINT: Final = Operation("PUT", _NAMED, CheckpointBody, version="v2")


class CheckpointOperations(OperationGroup):
    """Operations on checkpoints."""

    async def get_changeset_checkpoint(self, imodel_id: Id, changeset: str | int) -> Checkpoint:
        """The last checkpoint at or before a changeset, given by id or index.

        Raises `NotFoundError` where there is none, and for an unknown iModel or changeset, and
        `ForbiddenError` without the permission to read files.
        Platform page: https://developer.bentley.com/apis/imodels-v2/operations/get-changeset-checkpoint/

        Example::

            checkpoint = await itwin.imodels.get_changeset_checkpoint(imodel_id, 7)
            print(checkpoint.changeset_index, checkpoint.state)
        """
        request = GET_CHANGESET_CHECKPOINT.request(
            imodel_id=imodel_id, changeset=id_or_index(changeset)
        )
        return (await self._call(request)).checkpoint

    async def get_named_version_checkpoint(self, imodel_id: Id, named_version_id: Id) -> Checkpoint:
        """The checkpoint of a named version.

        Raises `NotFoundError` for an unknown one, and `ForbiddenError` without the permission to
        read files.
        Platform page: https://developer.bentley.com/apis/imodels-v2/operations/get-named-version-checkpoint/

        Example::

            checkpoint = await itwin.imodels.get_named_version_checkpoint(
                imodel_id, named_version_id
            )
        """
        request = GET_NAMED_VERSION_CHECKPOINT.request(
            imodel_id=imodel_id, named_version_id=named_version_id
        )
        return (await self._call(request)).checkpoint

    async def get_latest_checkpoint(self, imodel_id: Id) -> Checkpoint:
        """The last checkpoint of an iModel, with which a new briefcase begins.

        Raises `NotFoundError` for an unknown iModel, and `ForbiddenError` without the permission to
        read files.
        Platform page: https://developer.bentley.com/apis/imodels-v2/operations/get-briefcase-checkpoint/

        Example::

            checkpoint = await itwin.imodels.get_latest_checkpoint(imodel_id)
        """
        return (await self._call(GET_LATEST_CHECKPOINT.request(imodel_id=imodel_id))).checkpoint

    async def generate_checkpoint(self, imodel_id: Id, named_version_id: Id) -> Checkpoint:
        """Have the checkpoint of a named version generated again, where that has failed.

        Raises `NotFoundError` for an unknown one.
        Platform page: https://developer.bentley.com/apis/imodels-v2/operations/update-named-version-checkpoint/

        Example::

            checkpoint = await itwin.imodels.generate_checkpoint(imodel_id, named_version_id)
        """
        request = GENERATE_CHECKPOINT.request(
            imodel_id=imodel_id, named_version_id=named_version_id
        )
        return (await self._call(request)).checkpoint
