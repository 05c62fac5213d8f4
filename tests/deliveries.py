"""Deliveries as the platform sends them."""

import hashlib
import hmac
import json
from typing import Any

SECRET = "canary-secret-of-the-webhook-0123456789"

# The documented sample, with a changeset of its own.
CONTENT = {
    "changesetId": "1f2e04b666edce395e37a795e2231e995cbf8349",
    "changesetIndex": "1",
    "imodelId": "72640bf2-2173-4276-b896-c157bee0df76",
    "userId": "e5c7ae4f-2d72-4319-b96a-d46492e4f860",
}
ENVELOPE = {
    "content": CONTENT,
    "eventType": "iModels.changesReady.v1",
    "Base Event eventType": "undefined",
    "enqueuedDateTime": "11/3/2023 8:07:01 PM",
    "iTwinId": "ce40a55a-6954-4de3-85c7-f796c3e423d9",
    "messageId": "32369e4b-c9ff-47e4-b422-83b97247ce5b",
    "webhookId": "7da4ba7e-3a35-4d97-a1b0-6d453aa97493",
}


def sign(body: bytes, secret: str = SECRET) -> str:
    """The header ``Signature`` of a body."""
    return f"sha256={hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}"


def delivery(**fields: Any) -> tuple[bytes, str]:
    """The body of an event with these fields, and its signature."""
    body = json.dumps({**ENVELOPE, **fields}, indent=1).encode()
    return body, sign(body)
