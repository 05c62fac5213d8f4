"""The operations of the iModels API, composed of those of its resources."""

from itwin_async.imodels.changesets import ChangesetOperations
from itwin_async.imodels.extended_data import ExtendedDataOperations
from itwin_async.imodels.imodels import IModelOperations


class IModels(IModelOperations, ChangesetOperations, ExtendedDataOperations):
    """Operations of the iModels API: ``itwin.imodels``."""
