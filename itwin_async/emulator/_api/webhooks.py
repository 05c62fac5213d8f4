"""The Webhooks API: the webhooks of the service application."""

import secrets
from typing import Any, Final, cast
from urllib.parse import urlsplit
from uuid import uuid4

from itwin_async.emulator._api.request import Request
from itwin_async.emulator._api.resource import Resource
from itwin_async.emulator._api.validation import InvalidRequest, optional_property, read_body
from itwin_async.emulator._identity.users import SERVICE_USER
from itwin_async.emulator._response import Response, is_guid, refuse
from itwin_async.emulator._state.extensions import PRIMARY_ACCOUNT
from itwin_async.emulator._state.seed import JSON
from itwin_async.emulator._state.webhooks import Webhook, is_loopback

_SHORTEST_SECRET: Final = 32
_WEBHOOK: Final = Resource(
    key="webhook",
    list_key="webhooks",
    noun="webhook",
    missing="WebhookNotFound",
    # The page of create-webhook was not seen whole; this is the word of update-webhook.
    invalid="InvalidCreateWebhookRequest",
)
_INVALID_UPDATE: Final = "InvalidUpdateWebhookRequest"
_DETAIL: Final = "InvalidRequestBody"


def _render(webhook: Webhook) -> JSON:
    return {
        "id": webhook.id,
        "scope": webhook.scope,
        "scopeId": webhook.scope_id,
        "active": webhook.active,
        "callbackUrl": webhook.callback_url,
        "eventTypes": list(webhook.event_types),
        "created": webhook.created,
        "modified": webhook.modified,
    }


def list_webhooks(request: Request) -> Response:
    """All of them, in one page."""
    _only_services(request)
    return Response(json={"webhooks": [_render(item) for item in request.state.webhooks.values()]})


def get_webhook(request: Request) -> Response:
    """One webhook, without its secret."""
    return Response(json=_render(_find(request)))


def create_webhook(request: Request) -> Response:
    """Add an inactive webhook; only this answer has its secret."""
    _only_services(request)
    invalid = _WEBHOOK.invalid_request("Cannot create webhook.", _DETAIL)
    body = read_body(request, invalid)
    callback_url = _callback_url(body, invalid)
    event_types = _event_types(body, invalid)
    scope = optional_property(body, "scope", str, invalid)
    scope_id = optional_property(body, "scopeId", str, invalid)
    if scope not in {"Account", "iTwin"}:
        invalid("scope", "'scope' must be Account or iTwin.")
    if scope == "Account":
        scope_id = PRIMARY_ACCOUNT
    elif scope_id is None or not is_guid(scope_id):
        invalid("scopeId", "'scopeId' is required for this scope, and must be a GUID.")
    elif scope_id not in request.state.itwins:
        # No page says how an unknown iTwin is refused.
        refuse(403, "InsufficientPermissions", "The user has insufficient permissions.")
    secret = _secret(body, invalid) or secrets.token_hex(_SHORTEST_SECRET)
    now = request.state.timestamp(3)
    webhook = Webhook(str(uuid4()), scope, scope_id, callback_url, event_types, secret, now, now)
    request.state.webhooks[webhook.id] = webhook
    return Response(status=201, json={**_render(webhook), "secret": secret})


def update_webhook(request: Request) -> Response:
    """Change what is in the body, and nothing where any of it is wrong."""
    webhook = _find(request)
    invalid = InvalidRequest(_INVALID_UPDATE, "Cannot update webhook.", _DETAIL)
    body = read_body(request, invalid)
    active = optional_property(body, "active", bool, invalid)
    changed = Webhook(
        webhook.id,
        webhook.scope,
        webhook.scope_id,
        _callback_url(body, invalid) if "callbackUrl" in body else webhook.callback_url,
        _event_types(body, invalid) if "eventTypes" in body else webhook.event_types,
        _secret(body, invalid) or webhook.secret,
        webhook.created,
        request.state.timestamp(3),
        webhook.active if active is None else active,
    )
    request.state.webhooks[webhook.id] = changed
    return Response(json=_render(changed))


def delete_webhook(request: Request) -> Response:
    """Remove a webhook."""
    del request.state.webhooks[_find(request).id]
    return Response(status=204)


def _only_services(request: Request) -> None:
    if request.user != SERVICE_USER:
        message = "Only a service application may call the Webhooks API."
        refuse(403, "InsufficientPermissions", message)


def _find(request: Request) -> Webhook:
    _only_services(request)
    return _WEBHOOK.find(request.state.webhooks, request.params["webhook_id"])


def _callback_url(body: JSON, invalid: InvalidRequest) -> str:
    """The address of deliveries: https, or http on loopback, where nobody has a certificate."""
    url = optional_property(body, "callbackUrl", str, invalid) or ""
    try:
        parts = urlsplit(url)
        is_url = bool(parts.hostname) and (
            parts.scheme == "https" or (parts.scheme == "http" and is_loopback(url))
        )
    except ValueError:
        is_url = False
    if not is_url:
        invalid("callbackUrl", "'callbackUrl' must be an https URL.")
    return url


def _event_types(body: JSON, invalid: InvalidRequest) -> list[str]:
    listed = cast("list[Any] | None", optional_property(body, "eventTypes", list, invalid))
    if not listed or not all(isinstance(item, str) and item for item in listed):
        invalid("eventTypes", "'eventTypes' must name at least one type of event.")
    return listed


def _secret(body: JSON, invalid: InvalidRequest) -> str | None:
    secret = optional_property(body, "secret", str, invalid)
    if secret is not None and len(secret) < _SHORTEST_SECRET:
        invalid("secret", f"'secret' must have at least {_SHORTEST_SECRET} characters.")
    return secret
