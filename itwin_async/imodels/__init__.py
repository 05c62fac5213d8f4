"""The iModels API: iModels of an iTwin, their changesets, and the extended data of changesets."""

from itwin_async.imodels.extended_data import ExtendedData
from itwin_async.imodels.imodels import (
    Application,
    Changeset,
    ChangesetLinks,
    Extent,
    IModel,
    IModelLinks,
    IModels,
    Point,
    SynchronizationInfo,
)

__all__ = [
    "Application",
    "Changeset",
    "ChangesetLinks",
    "ExtendedData",
    "Extent",
    "IModel",
    "IModelLinks",
    "IModels",
    "Point",
    "SynchronizationInfo",
]
