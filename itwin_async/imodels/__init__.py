"""The iModels API: iModels of an iTwin, their changesets, and the extended data of changesets."""

from itwin_async.imodels.baseline import BaselineFile, BaselineFileLinks
from itwin_async.imodels.briefcases import Briefcase, BriefcaseLinks
from itwin_async.imodels.changeset_download import DownloadedChangesets
from itwin_async.imodels.changeset_groups import ChangesetGroup, ChangesetGroupLinks
from itwin_async.imodels.changesets import (
    Application,
    Changeset,
    ChangesetLinks,
    SynchronizationInfo,
)
from itwin_async.imodels.checkpoints import (
    AzureAccess,
    Checkpoint,
    CheckpointLinks,
    DirectoryAccess,
    GoogleAccess,
)
from itwin_async.imodels.creation import IModelCreation, IModelOrigin
from itwin_async.imodels.extended_data_entry import ExtendedData
from itwin_async.imodels.group import IModels
from itwin_async.imodels.imodels import Extent, IModel, IModelLinks, Point
from itwin_async.imodels.locks import Lock, LockedObjects
from itwin_async.imodels.named_versions import NamedVersion, NamedVersionLinks
from itwin_async.imodels.thumbnails import Thumbnail
from itwin_async.imodels.users import (
    IModelUser,
    UserApplication,
    UserLinks,
    UserStatistics,
)

__all__ = [
    "Application",
    "AzureAccess",
    "BaselineFile",
    "BaselineFileLinks",
    "Briefcase",
    "BriefcaseLinks",
    "Changeset",
    "ChangesetGroup",
    "ChangesetGroupLinks",
    "ChangesetLinks",
    "Checkpoint",
    "CheckpointLinks",
    "DirectoryAccess",
    "DownloadedChangesets",
    "ExtendedData",
    "Extent",
    "GoogleAccess",
    "IModel",
    "IModelCreation",
    "IModelLinks",
    "IModelOrigin",
    "IModelUser",
    "IModels",
    "Lock",
    "LockedObjects",
    "NamedVersion",
    "NamedVersionLinks",
    "Point",
    "SynchronizationInfo",
    "Thumbnail",
    "UserApplication",
    "UserLinks",
    "UserStatistics",
]
