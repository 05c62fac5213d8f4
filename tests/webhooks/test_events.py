"""Events of every documented type, with regular names; whatever else comes is kept."""

import json
import pickle
from datetime import UTC, datetime, timedelta, timezone

import msgspec
import pytest
from deliveries import CONTENT, ENVELOPE, SECRET, delivery, sign

from itwin_async import plain, webhooks
from itwin_async.webhooks import (
    ChangedElementsJobCompleted,
    ChangesReady,
    IModelCreated,
    IModelDeleted,
    IModelEvent,
    InvitationCreated,
    ITwinCreated,
    ITwinDeleted,
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
    verify,
)

IMODEL, USER = CONTENT["imodelId"], CONTENT["userId"]
MEMBER = {"memberId": "m", "eventCreatedBy": "u", "memberType": "User"}
ROLE = {**MEMBER, "roleId": "r", "roleName": "Viewer"}
MEMBER_FIELDS = {"member_id": "m", "event_created_by": "u", "member_type": "User"}
ROLE_FIELDS = {**MEMBER_FIELDS, "role_id": "r", "role_name": "Viewer"}
JOB, JOB_FIELDS = {"jobId": "j"}, {"job_id": "j"}
INDEXED = {"changeset_id": CONTENT["changesetId"], "changeset_index": 1, "imodel_id": IMODEL}
# Event type to its content on the wire, its class, and the fields that this has.
DOCUMENTED = {
    "iModels.iModelCreated.v1": (
        {"imodelId": IMODEL, "userId": USER},
        IModelCreated,
        {"imodel_id": IMODEL, "user_id": USER},
    ),
    "iModels.iModelDeleted.v1": (
        {"imodelId": IMODEL, "userId": USER},
        IModelDeleted,
        {"imodel_id": IMODEL, "user_id": USER},
    ),
    "iModels.changesReady.v1": (CONTENT, ChangesReady, {**INDEXED, "user_id": USER}),
    "iModels.namedVersionCreated.v1": (
        {**CONTENT, "versionId": "v"},
        NamedVersionCreated,
        {**INDEXED, "user_id": USER, "version_id": "v"},
    ),
    "accessControl.memberAdded.v1": (ROLE, MemberAdded, ROLE_FIELDS),
    "accessControl.memberRemoved.v1": (MEMBER, MemberRemoved, {**MEMBER_FIELDS, "role_id": None}),
    "accessControl.roleAssigned.v1": (ROLE, RoleAssigned, ROLE_FIELDS),
    "accessControl.roleUnassigned.v1": (ROLE, RoleUnassigned, ROLE_FIELDS),
    "accessControl.invitationCreated.v1": (
        {"invitationId": "i"},
        InvitationCreated,
        {"invitation_id": "i"},
    ),
    "iTwins.iTwinCreated.v1": (
        {"eventCreatedBy": "u", "parentId": "p"},
        ITwinCreated,
        {"event_created_by": "u", "parent_id": "p"},
    ),
    "iTwins.iTwinDeleted.v1": (
        {"eventCreatedBy": "u"},
        ITwinDeleted,
        {"event_created_by": "u", "parent_id": None},
    ),
    "changedElements.jobCompleted.v1": (
        {"jobId": "j", "iModelId": IMODEL, "more": [1]},
        ChangedElementsJobCompleted,
        {"job_id": "j", "imodel_id": IMODEL},
    ),
    "synchronization.jobCompleted.v1": (JOB, SynchronizationJobCompleted, JOB_FIELDS),
    "transformations.jobCompleted.v1": (JOB, TransformationsJobCompleted, JOB_FIELDS),
    "realityModeling.jobCompleted.v1": (JOB, RealityModelingJobCompleted, JOB_FIELDS),
    "realityAnalysis.jobCompleted.v1": (JOB, RealityAnalysisJobCompleted, JOB_FIELDS),
    "realityConversion.jobCompleted.v1": ({}, RealityConversionJobCompleted, {"job_id": None}),
}  # fmt: skip


def received(**fields) -> WebhookEvent:
    body, signature = delivery(**fields)
    return verify(body, signature, SECRET)


@pytest.mark.parametrize("event_type", DOCUMENTED)
def test_each_documented_event_has_a_class_of_its_own(event_type):
    content, kind, fields = DOCUMENTED[event_type]
    event = received(eventType=event_type, content=content)
    assert type(event) is kind
    assert {name: getattr(event, name) for name in fields} == fields
    assert event.event_type == event_type
    assert event.content == content
    assert event.itwin_id == ENVELOPE["iTwinId"]
    assert event.message_id == ENVELOPE["messageId"]
    assert event.webhook_id == ENVELOPE["webhookId"]
    assert event.enqueued_date_time == datetime(2023, 11, 3, 20, 7, 1, tzinfo=UTC)


def test_every_class_of_an_event_is_public_and_has_a_type_or_members():
    kinds = {kind for _, kind, _ in DOCUMENTED.values()}
    public = {getattr(webhooks, name) for name in webhooks.__all__} - {verify}
    bases = {WebhookEvent, IModelEvent, MemberEvent, webhooks.ITwinEvent, JobCompleted}
    assert public == kinds | bases
    assert all(kind.__module__ == "itwin_async.webhooks" for kind in public)


def test_events_of_a_kind_have_a_class_in_common():
    assert isinstance(received(), IModelEvent)
    member = received(eventType="accessControl.roleAssigned.v1", content=ROLE)
    assert isinstance(member, MemberEvent)
    job = received(eventType="synchronization.jobCompleted.v1", content={})
    assert isinstance(job, JobCompleted)


@pytest.mark.parametrize("event_type", ["forms.formCreated.v1", "iModels.changesReady.v2", "new"])
def test_an_unknown_event_is_kept_as_it_is(event_type):
    content = {"formId": "f", "changesetIndex": "1", "deep": {"a": [None]}}
    event = received(eventType=event_type, content=content)
    assert type(event) is WebhookEvent
    assert (event.event_type, event.content) == (event_type, content)


@pytest.mark.parametrize(
    "content",
    [{}, {"imodelId": None}, {"imodelId": 5}, {**CONTENT, "changesetIndex": "first"}],
)
def test_an_event_with_another_content_than_documented_is_kept_as_it_is(content):
    event = received(content=content)
    assert type(event) is WebhookEvent
    assert event.event_type == "iModels.changesReady.v1"
    assert event.content == content


@pytest.mark.parametrize("spelling", ["imodelId", "iModelId", "IModelID"])
def test_an_imodel_has_one_name_however_it_is_spelled(spelling):
    assert received(content={spelling: IMODEL}).imodel_id == IMODEL


@pytest.mark.parametrize("index", ["12", 12])
def test_an_index_is_a_number(index):
    assert received(content={**CONTENT, "changesetIndex": index}).changeset_index == 12


@pytest.mark.parametrize("name", ["content", "iTwinId", "webhookId", "enqueuedDateTime"])
@pytest.mark.parametrize("null", [True, False], ids=["null", "absent"])
def test_what_is_missing_in_the_envelope_is_none(name, null):
    fields = {key: value for key, value in ENVELOPE.items() if key != name}
    if null:
        fields[name] = None
    body = json.dumps(fields).encode()
    event = verify(body, sign(body), SECRET)
    attribute = {"iTwinId": "itwin_id", "webhookId": "webhook_id"}.get(name, "enqueued_date_time")
    if name == "content":
        assert event.content == {}
    else:
        assert getattr(event, attribute) is None


EVENING = datetime(2023, 11, 3, 20, 7, 1, tzinfo=UTC)
DATES = {
    "11/3/2023 8:07:01 PM": EVENING,
    "11/03/2023 08:07:01 pm": EVENING,
    "11/3/2023 8:07:01\u202fPM": EVENING,
    " 11/3/2023  8:07:01 PM ": EVENING,
    "11/3/2023 12:00:00 AM": datetime(2023, 11, 3, tzinfo=UTC),
    "11/3/2023 12:00:00 PM": datetime(2023, 11, 3, 12, tzinfo=UTC),
    "1/2/2023 1:02:03 AM": datetime(2023, 1, 2, 1, 2, 3, tzinfo=UTC),
    "2023-11-03T20:07:01Z": EVENING,
    "2023-11-03T20:07:01": EVENING,
    "2023-11-03T21:07:01+01:00": EVENING.astimezone(timezone(timedelta(hours=1))),
    "11/3/2023 20:07:01": None,
    "13/3/2023 8:07:01 PM": None,
    "2/30/2023 8:07:01 PM": None,
    "11/3/2023 0:07:01 PM": None,
    "11/3/2023 13:07:01 PM": None,
    "11/3/2023 8:60:01 PM": None,
    "today": None,
    "": None,
}


@pytest.mark.parametrize("text", DATES)
def test_a_date_is_read_as_utc_and_its_text_is_kept(text):
    event = received(enqueuedDateTime=text)
    assert event.enqueued_date_time == DATES[text]
    assert event.enqueued_text == text
    if DATES[text] is not None:
        assert event.enqueued_date_time.tzinfo is not None


@pytest.mark.parametrize("value", [5, [], {}])
def test_a_date_that_is_no_text_is_none(value):
    event = received(enqueuedDateTime=value)
    assert event.enqueued_date_time is None
    assert event.enqueued_text is None


def test_an_event_is_a_value():
    event = received()
    assert event == received()
    assert pickle.loads(pickle.dumps(event)) == event
    assert json.loads(json.dumps(plain(event)))["iModelId"] == IMODEL
    assert json.loads(msgspec.json.encode(event))["changesetIndex"] == 1
    with pytest.raises(AttributeError):
        event.imodel_id = "other"
    assert repr(event) == f"ChangesReady(imodel_id='{IMODEL}', changeset_index=1)"
    assert "<table>" in event._repr_html_()
