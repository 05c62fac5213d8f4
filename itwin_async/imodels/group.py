"""The operations of the iModels API, composed of those of its resources."""

from itwin_async.imodels.baseline import BaselineOperations
from itwin_async.imodels.changeset_download import ChangesetDownloads
from itwin_async.imodels.extended_data import ExtendedDataOperations
from itwin_async.imodels.favorites import FavoriteOperations
from itwin_async.imodels.thumbnails import ThumbnailOperations
from itwin_async.imodels.users import UserOperations


class IModels(
    BaselineOperations,
    FavoriteOperations,
    ChangesetDownloads,
    ExtendedDataOperations,
    ThumbnailOperations,
    UserOperations,
):
    """Operations of the iModels API: ``itwin.imodels``."""
