"""Webhooks: the events that the platform sends to an address of yours."""

from collections.abc import Sequence
from datetime import datetime
from types import NoneType
from typing import Any, ClassVar, Final, Literal, TypeAlias, get_args

import msgspec

from itwin_async._core.operation import Operation
from itwin_async._core.records import Record, assume_utc
from itwin_async._core.secrets import SecretDict, SecretStrs, SecretValue
from itwin_async._core.urls import absolute_origin
from itwin_async._core.validation import Id, check_choice, check_flag, check_id, check_text
from itwin_async._pagination.operation_group import OperationGroup
from itwin_async._pagination.page_types import SinglePage
from itwin_async._pagination.pager import Pager

WebhookScope: TypeAlias = Literal["Account", "iTwin"]
_SCOPES: Final[tuple[str, ...]] = get_args(WebhookScope)
_SHORTEST_SECRET: Final = 32


class Webhook(Record, frozen=True, kw_only=True):
    """A webhook: which events go to which address.

    ``scope`` is Account or iTwin, so far. ``secret`` comes with a new webhook, and never again:
    keep it where the deliveries are received. No repr shows it.
    """

    id: str
    scope: str | None = None
    scope_id: str | None = None
    active: bool | None = None
    callback_url: str | None = None
    event_types: tuple[str, ...] = ()
    created: datetime | None = None
    modified: datetime | None = None
    secret: str | None = None

    _repr_fields: ClassVar = ("id", "active", "scope", "event_types")
    _signed: ClassVar = ("secret",)

    def __post_init__(self) -> None:
        assume_utc(self, "created", "modified")


class WebhookPage(SinglePage[Webhook]):
    """All webhooks, in one response."""

    webhooks: list[Webhook]


LIST_WEBHOOKS: Final = Operation("GET", "/webhooks/", WebhookPage, version="v2")
GET_WEBHOOK: Final = Operation("GET", "/webhooks/{webhook_id}", Webhook, version="v2")
CREATE_WEBHOOK: Final = Operation("POST", "/webhooks/", Webhook, version="v2")
UPDATE_WEBHOOK: Final = Operation("PATCH", "/webhooks/{webhook_id}", Webhook, version="v2")
DELETE_WEBHOOK: Final = Operation("DELETE", "/webhooks/{webhook_id}", NoneType, version="v2")


class Webhooks(OperationGroup):
    """Operations on webhooks: ``itwin.webhooks``.

    The platform allows them to service applications alone, with the permission
    ``webhooks_maintainer`` in the iTwin, or as administrator of the organization; to others they
    raise `ForbiddenError`. What a webhook delivers is read by `itwin_async.webhooks.verify`.
    """

    def list_webhooks(self) -> Pager[Webhook]:
        """The webhooks that this application created, in one page.

        Platform page: https://developer.bentley.com/apis/webhooks-v2/operations/get-webhooks/

        Example::

            async for webhook in itwin.webhooks.list_webhooks():
                print(webhook.id, webhook.active, webhook.callback_url)
        """
        return self._list(LIST_WEBHOOKS.request())

    async def get_webhook(self, webhook_id: Id) -> Webhook:
        """One webhook. Raises `NotFoundError` for an unknown one.

        Platform page: https://developer.bentley.com/apis/webhooks-v2/operations/get-webhook/
        """
        return await self._call(GET_WEBHOOK.request(webhook_id=webhook_id))

    async def create_webhook(
        self,
        callback_url: str,
        scope: WebhookScope,
        event_types: Sequence[str],
        *,
        scope_id: Id | None = None,
        secret: str | None = None,
    ) -> Webhook:
        """Create a webhook, which is inactive until `update_webhook` activates it.

        ``callback_url`` is a public https address; http too at an emulator.
        ``scope`` is "iTwin", for what happens directly in the iTwin ``scope_id`` and not in those
        below it, or "Account", for all of the application's account. ``event_types`` are words
        such as "iModels.changesReady.v1". ``secret`` signs the deliveries and has at least 32
        characters; where it is None the platform makes one, which is in the answer and shown only
        here. Raises `InvalidRequestError` for what the platform does not take. Not sent again
        where its outcome is unknown.
        Platform page: https://developer.bentley.com/apis/webhooks-v2/operations/create-webhook/

        Example::

            events = ["iModels.changesReady.v1"]
            webhook = await itwin.webhooks.create_webhook(
                "https://example.com/webhook", "iTwin", events, scope_id=itwin_id
            )
            await itwin.webhooks.update_webhook(webhook.id, active=True)
        """
        secret_value, url = SecretValue(secret), SecretValue(callback_url)
        del secret, callback_url  # secrets in frames: docs/adr/0008
        self._check_callback_url(url)
        check_choice("scope", scope, _SCOPES, optional=False)
        check_id("scope_id", scope_id)
        if scope == "iTwin" and not str(scope_id or "").strip():
            raise ValueError("scope_id must be the id of an iTwin where the scope is iTwin")
        body = SecretDict(scope=scope, eventTypes=_event_types(event_types))
        body["callbackUrl"] = url.value
        if scope_id is not None:
            body["scopeId"] = scope_id
        request = CREATE_WEBHOOK.request(body=_with_secret(body, secret_value))
        return await self._call(msgspec.structs.replace(request, secrets=_secrets(secret_value)))

    async def update_webhook(
        self,
        webhook_id: Id,
        *,
        active: bool | None = None,
        callback_url: str | None = None,
        secret: str | None = None,
        event_types: Sequence[str] | None = None,
    ) -> Webhook:
        """Change what is given of a webhook, such as ``active=True`` to let it deliver events.

        Raises `NotFoundError` for an unknown one, and `InvalidRequestError` for what the platform
        does not take. Not sent again where its outcome is unknown.
        Platform page: https://developer.bentley.com/apis/webhooks-v2/operations/update-webhook/

        Example::

            async for webhook in itwin.webhooks.list_webhooks():
                if not webhook.active:
                    await itwin.webhooks.update_webhook(webhook.id, active=True)
        """
        secret_value, url = SecretValue(secret), SecretValue(callback_url)
        del secret, callback_url  # secrets in frames: docs/adr/0008
        body = SecretDict()
        if active is not None:
            check_flag("active", active)
            body["active"] = active
        if url.value is not None:
            self._check_callback_url(url)
            body["callbackUrl"] = url.value
        if event_types is not None:
            body["eventTypes"] = _event_types(event_types)
        body = _with_secret(body, secret_value)
        if not body:
            raise ValueError("give at least one of active, callback_url, secret and event_types")
        request = UPDATE_WEBHOOK.request(webhook_id=webhook_id, body=body)
        return await self._call(msgspec.structs.replace(request, secrets=_secrets(secret_value)))

    async def delete_webhook(self, webhook_id: Id) -> None:
        """Delete a webhook. Raises `NotFoundError` for an unknown one.

        Platform page: https://developer.bentley.com/apis/webhooks-v2/operations/delete-webhook/
        """
        await self._call(DELETE_WEBHOOK.request(webhook_id=webhook_id))

    def _check_callback_url(self, url: SecretValue) -> None:
        """`TypeError` or `ValueError` unless the platform can send events to this address."""
        origin, base = absolute_origin(url, "callback_url"), self._executor.base
        if origin.scheme == "http" and base.scheme == "https" and not base.is_loopback:
            raise ValueError("callback_url must be https: the platform sends events to no other")


def _with_secret(body: SecretDict, secret: SecretValue) -> SecretDict:
    """The body with the secret in it, where there is one; `TypeError` or `ValueError` if bad."""
    if secret.value is None:
        return body
    if not isinstance(secret.value, str):
        raise TypeError(f"secret must be a str, not {type(secret.value).__name__}")
    if len(secret.value) < _SHORTEST_SECRET:
        raise ValueError(f"secret must have at least {_SHORTEST_SECRET} characters")
    return SecretDict(body, secret=secret.value)


def _secrets(secret: SecretValue) -> SecretStrs:
    return SecretStrs(() if secret.value is None else (secret.value,))


def _event_types(event_types: object) -> list[str]:
    """Event types as a list; `TypeError` or `ValueError` unless it is some, and all are text."""
    if isinstance(event_types, str) or not isinstance(event_types, Sequence):
        kind = type(event_types).__name__
        raise TypeError(f"event_types must be a sequence of str, not {kind}")
    listed: list[Any] = [*event_types]
    if not listed:
        raise ValueError("event_types must not be empty")
    for event_type in listed:
        check_text("an event type", event_type, optional=False)
    return listed
