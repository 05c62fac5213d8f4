"""The events that webhooks deliver, with the platform's odd spellings made regular. No I/O."""

from datetime import datetime
from typing import Any, ClassVar, Final

import msgspec

from itwin_async._core.records import Record


class WebhookEvent(Record, frozen=True, kw_only=True):
    """An event that a webhook delivered; the base of the events of each documented type.

    An event of an unknown type is a plain `WebhookEvent`, and so is one whose content is not as
    documented: ``content`` is the content as it came, of every event.

    ``message_id`` identifies the message, which comes again until it is answered in time.
    ``enqueued_date_time`` is read as UTC, since the platform writes no zone; None where its text,
    ``enqueued_text``, is no date.
    """

    event_type: str
    message_id: str
    webhook_id: str | None = None
    itwin_id: str | None = None
    enqueued_date_time: datetime | None = None
    enqueued_text: str | None = None
    content: dict[str, Any] = msgspec.field(default_factory=dict[str, Any])

    _repr_fields: ClassVar[tuple[str, ...]] = ("event_type", "message_id")


class IModelEvent(WebhookEvent, frozen=True, kw_only=True):
    """Something happened to an iModel. ``user_id`` is who did it."""

    imodel_id: str
    user_id: str | None = None

    _repr_fields: ClassVar[tuple[str, ...]] = ("imodel_id", "enqueued_date_time")


class IModelCreated(IModelEvent, frozen=True, kw_only=True):
    """An iModel was created: ``iModels.iModelCreated.v1``."""


class IModelDeleted(IModelEvent, frozen=True, kw_only=True):
    """An iModel was deleted: ``iModels.iModelDeleted.v1``."""


class ChangesReady(IModelEvent, frozen=True, kw_only=True):
    """New changesets are ready to be processed: ``iModels.changesReady.v1``.

    The event to subscribe to for changesets: there is none for each push, and none for extended
    data, which may be stored some time after the push.
    """

    changeset_id: str | None = None
    changeset_index: int | None = None

    _repr_fields: ClassVar = ("imodel_id", "changeset_index")


class NamedVersionCreated(IModelEvent, frozen=True, kw_only=True):
    """A changeset got a name: ``iModels.namedVersionCreated.v1``."""

    changeset_id: str | None = None
    changeset_index: int | None = None
    version_id: str | None = None

    _repr_fields: ClassVar = ("imodel_id", "changeset_index", "version_id")


class MemberEvent(WebhookEvent, frozen=True, kw_only=True):
    """The members of an iTwin changed. ``event_created_by`` is the user who did it."""

    member_id: str
    member_type: str | None = None
    role_id: str | None = None
    role_name: str | None = None
    event_created_by: str | None = None

    _repr_fields: ClassVar = ("member_id", "role_name", "itwin_id")


class MemberAdded(MemberEvent, frozen=True, kw_only=True):
    """A member was added: ``accessControl.memberAdded.v1``."""


class MemberRemoved(MemberEvent, frozen=True, kw_only=True):
    """A member was removed, without a role: ``accessControl.memberRemoved.v1``."""


class RoleAssigned(MemberEvent, frozen=True, kw_only=True):
    """A member got a role: ``accessControl.roleAssigned.v1``."""


class RoleUnassigned(MemberEvent, frozen=True, kw_only=True):
    """A member lost a role: ``accessControl.roleUnassigned.v1``."""


class InvitationCreated(WebhookEvent, frozen=True, kw_only=True):
    """Somebody was invited to an iTwin: ``accessControl.invitationCreated.v1``."""

    invitation_id: str

    _repr_fields: ClassVar = ("invitation_id", "itwin_id")


class ITwinEvent(WebhookEvent, frozen=True, kw_only=True):
    """Something happened to an iTwin, ``itwin_id``. ``event_created_by`` is the user who did it."""

    parent_id: str | None = None
    event_created_by: str | None = None

    _repr_fields: ClassVar = ("itwin_id", "enqueued_date_time")


class ITwinCreated(ITwinEvent, frozen=True, kw_only=True):
    """An iTwin was created: ``iTwins.iTwinCreated.v1``."""


class ITwinDeleted(ITwinEvent, frozen=True, kw_only=True):
    """An iTwin was deleted: ``iTwins.iTwinDeleted.v1``."""


class JobCompleted(WebhookEvent, frozen=True, kw_only=True):
    """A job ended. What else is known of it differs by its API: see ``content``."""

    job_id: str | None = None

    _repr_fields: ClassVar = ("event_type", "job_id")


class ChangedElementsJobCompleted(JobCompleted, frozen=True, kw_only=True):
    """A comparison of versions is complete: ``changedElements.jobCompleted.v1``."""

    imodel_id: str | None = None


class SynchronizationJobCompleted(JobCompleted, frozen=True, kw_only=True):
    """A synchronization ended: ``synchronization.jobCompleted.v1``."""


class TransformationsJobCompleted(JobCompleted, frozen=True, kw_only=True):
    """A transformation ended: ``transformations.jobCompleted.v1``."""


class RealityModelingJobCompleted(JobCompleted, frozen=True, kw_only=True):
    """A reality model is made: ``realityModeling.jobCompleted.v1``."""


class RealityAnalysisJobCompleted(JobCompleted, frozen=True, kw_only=True):
    """An analysis of reality data ended: ``realityAnalysis.jobCompleted.v1``."""


class RealityConversionJobCompleted(JobCompleted, frozen=True, kw_only=True):
    """A conversion of reality data ended: ``realityConversion.jobCompleted.v1``."""


EVENT_TYPES: Final[dict[str, type[WebhookEvent]]] = {
    "iModels.iModelCreated.v1": IModelCreated,
    "iModels.iModelDeleted.v1": IModelDeleted,
    "iModels.changesReady.v1": ChangesReady,
    "iModels.namedVersionCreated.v1": NamedVersionCreated,
    "accessControl.memberAdded.v1": MemberAdded,
    "accessControl.memberRemoved.v1": MemberRemoved,
    "accessControl.roleAssigned.v1": RoleAssigned,
    "accessControl.roleUnassigned.v1": RoleUnassigned,
    "accessControl.invitationCreated.v1": InvitationCreated,
    "iTwins.iTwinCreated.v1": ITwinCreated,
    "iTwins.iTwinDeleted.v1": ITwinDeleted,
    "changedElements.jobCompleted.v1": ChangedElementsJobCompleted,
    "synchronization.jobCompleted.v1": SynchronizationJobCompleted,
    "transformations.jobCompleted.v1": TransformationsJobCompleted,
    "realityModeling.jobCompleted.v1": RealityModelingJobCompleted,
    "realityAnalysis.jobCompleted.v1": RealityAnalysisJobCompleted,
    "realityConversion.jobCompleted.v1": RealityConversionJobCompleted,
}
