"""Webhooks: their life at the platform, what cannot be one, and a secret that nothing shows."""

import json
from datetime import datetime

import msgspec
import pytest
from known import ACCOUNT, ITWIN, UNKNOWN, every
from rich.pretty import pretty_repr
from secrecy import shown
from support import cancelled_at_each_await

from itwin_async import (
    DecodeError,
    ForbiddenError,
    InvalidRequestError,
    ITwinSession,
    NotFoundError,
    ServerError,
    StaticToken,
    TransportError,
    Webhook,
    plain,
)
from itwin_async._core.secrets import SecretValue
from itwin_async.emulator import Cut, Edit, Garbage, Reset, Status

URL = "https://example.com/webhook"
EVENTS = ["iModels.changesReady.v1", "iModels.namedVersionCreated.v1"]
SECRET = "canary-secret-of-the-webhook-0123456789"
SHORTEST = "0123456789abcdef0123456789abcdef"


async def create(itwin: ITwinSession, **options) -> Webhook:
    return await itwin.webhooks.create_webhook(URL, "iTwin", EVENTS, scope_id=ITWIN, **options)


async def test_the_life_of_a_webhook(itwin):
    assert await every(itwin.webhooks.list_webhooks()) == []
    webhook = await create(itwin)
    assert (webhook.callback_url, webhook.event_types) == (URL, tuple(EVENTS))
    assert (webhook.scope, webhook.scope_id, webhook.active) == ("iTwin", ITWIN, False)
    assert isinstance(webhook.created, datetime)
    assert webhook.created.utcoffset() is not None
    assert webhook.secret is not None
    assert len(webhook.secret) >= 32

    active = await itwin.webhooks.update_webhook(webhook.id, active=True)
    assert (active.id, active.active, active.secret) == (webhook.id, True, None)
    assert active.callback_url == URL
    assert await itwin.webhooks.get_webhook(webhook.id) == active
    assert await every(itwin.webhooks.list_webhooks()) == [active]

    moved = await itwin.webhooks.update_webhook(
        webhook.id, callback_url=f"{URL}/2", event_types=("a",), active=False
    )
    assert (moved.callback_url, moved.event_types, moved.active) == (f"{URL}/2", ("a",), False)

    assert await itwin.webhooks.delete_webhook(webhook.id) is None
    with pytest.raises(NotFoundError, match="WebhookNotFound"):
        await itwin.webhooks.get_webhook(webhook.id)
    assert await every(itwin.webhooks.list_webhooks()) == []


async def test_only_what_is_given_is_sent(emulator, itwin):
    webhook = await create(itwin)
    for change, sent in (
        ({"active": False}, {"active": False}),
        ({"callback_url": URL}, {"callbackUrl": URL}),
        ({"event_types": ["a"]}, {"eventTypes": ["a"]}),
        ({"secret": SHORTEST}, {"secret": SHORTEST}),
    ):
        await itwin.webhooks.update_webhook(webhook.id, **change)
        assert json.loads(emulator.requests[-1].body) == sent
    await itwin.webhooks.create_webhook(URL, "Account", ("a",))
    assert json.loads(emulator.requests[-1].body) == {
        "callbackUrl": URL,
        "scope": "Account",
        "eventTypes": ["a"],
    }


async def test_a_webhook_of_the_account_has_the_account_as_its_scope(itwin):
    webhook = await itwin.webhooks.create_webhook(URL, "Account", EVENTS)
    assert (webhook.scope, webhook.scope_id) == ("Account", ACCOUNT)


async def test_an_own_secret_is_answered_once(itwin):
    webhook = await create(itwin, secret=SHORTEST)
    assert webhook.secret == SHORTEST
    changed = await itwin.webhooks.update_webhook(webhook.id, secret=SECRET)
    found = await itwin.webhooks.get_webhook(webhook.id)
    assert changed.secret is None
    assert found.secret is None


async def test_only_a_service_may_have_webhooks(emulator):
    token = StaticToken(emulator.issue_token(user="owner"))
    async with ITwinSession(token, base_url=emulator.url) as itwin:
        for call in (create(itwin), every(itwin.webhooks.list_webhooks())):
            with pytest.raises(ForbiddenError, match="InsufficientPermissions"):
                await call


@pytest.mark.parametrize(
    ("body", "target"),
    [
        ({"callbackUrl": "ftp://a.example"}, "callbackUrl"),
        ({"callbackUrl": 5}, "callbackUrl"),
        ({"callbackUrl": None}, "callbackUrl"),
        ({"callbackUrl": "https://[::bad"}, "callbackUrl"),
        ({"scope": "World"}, "scope"),
        ({"scope": "iTwin", "scopeId": None}, "scopeId"),
        ({"eventTypes": []}, "eventTypes"),
        ({"eventTypes": [5]}, "eventTypes"),
        ({"secret": "short"}, "secret"),
    ],
)
async def test_the_emulator_names_what_is_wrong(itwin, body, target):
    right = {"callbackUrl": URL, "scope": "Account", "eventTypes": ["a"]}
    with pytest.raises(InvalidRequestError, match="InvalidCreateWebhookRequest") as caught:
        await itwin.request("POST", "/webhooks/", body={**right, **body}, version="v2")
    assert caught.value.details[0].target == target
    webhook = await create(itwin)
    if "scope" not in body:
        path = f"/webhooks/{webhook.id}"
        with pytest.raises(InvalidRequestError, match="InvalidUpdateWebhookRequest"):
            await itwin.request("PATCH", path, body={"active": True, **body}, version="v2")
        assert (await itwin.webhooks.get_webhook(webhook.id)).active is False


async def test_an_itwin_that_is_not_there_is_refused(itwin):
    with pytest.raises(ForbiddenError):
        await itwin.webhooks.create_webhook(URL, "iTwin", EVENTS, scope_id=UNKNOWN)


def created(i, url=URL, scope="iTwin", events=EVENTS, **options):
    return i.webhooks.create_webhook(url, scope, events, **{"scope_id": ITWIN, **options})


def changed(i, **options):
    return i.webhooks.update_webhook(UNKNOWN, **options)


WRONG = {
    "url empty": (lambda i: created(i, ""), ValueError),
    "url relative": (lambda i: created(i, "/webhook"), ValueError),
    "url scheme": (lambda i: created(i, "ftp://a.example/"), ValueError),
    "url type": (lambda i: created(i, 5), TypeError),
    "url bytes": (lambda i: changed(i, callback_url=b"https://a.example"), TypeError),
    "scope": (lambda i: created(i, scope="itwin"), ValueError),
    "scope none": (lambda i: created(i, scope=None), ValueError),
    "scope_id none": (lambda i: created(i, scope_id=None), ValueError),
    "scope_id empty": (lambda i: created(i, scope_id=" "), ValueError),
    "scope_id type": (lambda i: created(i, scope_id=5), TypeError),
    "events empty": (lambda i: created(i, events=[]), ValueError),
    "events text": (lambda i: created(i, events=EVENTS[0]), TypeError),
    "events set": (lambda i: created(i, events=set(EVENTS)), TypeError),
    "events none": (lambda i: created(i, events=None), TypeError),
    "event empty": (lambda i: created(i, events=[""]), ValueError),
    "event type": (lambda i: changed(i, event_types=[5]), TypeError),
    "secret short": (lambda i: created(i, secret="canary-short-secret-of-31-chars"), ValueError),
    "secret empty": (lambda i: changed(i, secret=""), ValueError),
    "secret type": (lambda i: created(i, secret=SECRET.encode()), TypeError),
    "secret no text": (lambda i: changed(i, secret="\ud800" * 32), ValueError),
    "active": (lambda i: changed(i, active=1), TypeError),
    "nothing": (lambda i: changed(i), ValueError),
}  # fmt: skip


@pytest.mark.parametrize(("use", "error"), WRONG.values(), ids=WRONG)
async def test_what_cannot_be_a_webhook_is_refused_unsent(emulator, itwin, use, error):
    with pytest.raises(error) as caught:
        await use(itwin)
    assert len(str(caught.value).splitlines()) == 1
    assert not emulator.requests


@pytest.mark.parametrize(
    ("base", "allowed"),
    [
        ("https://api.bentley.com", False),
        ("https://127.0.0.1:8443", True),
        ("http://127.0.0.1:9", True),
    ],
)
async def test_a_callback_is_https_except_at_an_emulator(base, allowed):
    async with ITwinSession(StaticToken("token-of-the-test"), base_url=base) as itwin:
        check = itwin.webhooks._check_callback_url
        url = SecretValue("http://127.0.0.1:8000/webhook")
        if allowed:
            check(url)
        else:
            with pytest.raises(ValueError, match="callback_url must be https"):
                check(url)


# The secret


async def test_a_new_secret_is_in_its_field_alone(itwin):
    webhook = await create(itwin, secret=SECRET)
    assert webhook.secret == SECRET
    for text in (
        repr(webhook), str(webhook), f"{webhook}", webhook._repr_html_(), pretty_repr(webhook),
        repr([webhook]), json.dumps(plain(webhook)),
    ):  # fmt: skip
        assert webhook.id[:13] in text
        assert "canary" not in text
    assert plain(webhook, signed_links=True)["secret"] == SECRET
    assert SECRET.encode() in msgspec.json.encode(webhook)


def refused(secret: str) -> Status:
    details = [{"code": "InvalidRequestBody", "message": f"'{secret}' is weak", "target": secret}]
    error = {"code": "InvalidCreateWebhookRequest", "message": f"no {secret}", "details": details}
    return Status(422, body={"error": error})


def spoil(body) -> None:
    body["created"] = {"secret": body["secret"]}


FAULTS = {
    "refused": (refused(SECRET), InvalidRequestError),
    "repeated in text": (Status(500, body=f"failed: {SECRET}"), ServerError),
    "not decoded": (Edit(spoil), DecodeError),
    "garbage": (Garbage(), DecodeError),
    "reset": (Reset(), TransportError),
    "cut": (Cut(10), TransportError),
}


@pytest.mark.parametrize(("fault", "error"), FAULTS.values(), ids=FAULTS)
async def test_no_error_shows_a_secret(emulator, itwin, fault, error):
    emulator.faults.add("create_webhook", fault, times=None)
    with pytest.raises(error) as caught:
        await create(itwin, secret=SECRET)
    assert "canary" not in shown(caught.value)
    count = emulator.count("create_webhook")
    assert count == 1  # it may have been created
    assert caught.value.outcome_unknown is not isinstance(caught.value, InvalidRequestError)


async def test_no_error_of_a_change_shows_a_secret(emulator, itwin):
    webhook = await create(itwin)
    emulator.faults.add("update_webhook", refused(SECRET))
    with pytest.raises(InvalidRequestError) as caught:
        await itwin.webhooks.update_webhook(webhook.id, secret=SECRET)
    assert "canary" not in shown(caught.value)
    assert emulator.count("update_webhook") == 1


async def test_a_cancelled_creation_leaves_nothing_behind(emulator, itwin, cancel_kind):
    async def check(_: int) -> None:
        assert itwin.limiter.in_use == 0

    awaits, webhook = await cancelled_at_each_await(
        cancel_kind, lambda: create(itwin, secret=SECRET), check
    )
    assert awaits > 2
    assert webhook.secret == SECRET
