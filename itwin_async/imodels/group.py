"""The operations of the iModels API, composed of those of its resources."""

from itwin_async.imodels.baseline import BaselineOperations
from itwin_async.imodels.briefcases import BriefcaseOperations
from itwin_async.imodels.changeset_download import ChangesetDownloads
from itwin_async.imodels.changeset_groups import ChangesetGroupOperations
from itwin_async.imodels.changeset_push import ChangesetPushes
from itwin_async.imodels.checkpoints import CheckpointOperations
from itwin_async.imodels.extended_data import ExtendedDataOperations
from itwin_async.imodels.favorites import FavoriteOperations
from itwin_async.imodels.locks import LockOperations
from itwin_async.imodels.named_versions import NamedVersionOperations
from itwin_async.imodels.thumbnails import ThumbnailOperations
from itwin_async.imodels.users import UserOperations


class IModels(
    BaselineOperations,
    FavoriteOperations,
    NamedVersionOperations,
    ChangesetDownloads,
    ChangesetPushes,
    ChangesetGroupOperations,
    ExtendedDataOperations,
    ThumbnailOperations,
    UserOperations,
    CheckpointOperations,
    BriefcaseOperations,
    LockOperations,
):
    """Operations of the iModels API: ``itwin.imodels``."""
