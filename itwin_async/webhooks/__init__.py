"""The Webhooks API: webhooks themselves, and the events that they deliver.

`verify` checks the signature of a delivery and reads its event. `Webhook` and the operations are
importable from ``itwin_async``.
"""

from itwin_async.webhooks.deliveries import verify
from itwin_async.webhooks.events import (
    ChangedElementsJobCompleted,
    ChangesReady,
    IModelCreated,
    IModelDeleted,
    IModelEvent,
    InvitationCreated,
    ITwinCreated,
    ITwinDeleted,
    ITwinEvent,
    JobCompleted,
    MemberAdded,
    MemberEvent,
    MemberRemoved,
    NamedVersionCreated,
    RealityAnalysisJobCompleted,
    RealityConversionJobCompleted,
    RealityModelingJobCompleted,
    RoleAssigned,
    RoleUnassigned,
    SynchronizationJobCompleted,
    TransformationsJobCompleted,
    WebhookEvent,
)
from itwin_async.webhooks.webhooks import Webhook as Webhook
from itwin_async.webhooks.webhooks import Webhooks as Webhooks

__all__ = [
    "ChangedElementsJobCompleted",
    "ChangesReady",
    "IModelCreated",
    "IModelDeleted",
    "IModelEvent",
    "ITwinCreated",
    "ITwinDeleted",
    "ITwinEvent",
    "InvitationCreated",
    "JobCompleted",
    "MemberAdded",
    "MemberEvent",
    "MemberRemoved",
    "NamedVersionCreated",
    "RealityAnalysisJobCompleted",
    "RealityConversionJobCompleted",
    "RealityModelingJobCompleted",
    "RoleAssigned",
    "RoleUnassigned",
    "SynchronizationJobCompleted",
    "TransformationsJobCompleted",
    "WebhookEvent",
    "verify",
]

for _name in __all__:
    # Tracebacks, pickles and documentation name the public place, wherever a class is defined.
    globals()[_name].__module__ = __name__
