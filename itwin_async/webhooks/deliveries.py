"""Deliveries of webhooks: the signature first, and then the event. No I/O."""

import functools
import hashlib
import hmac
import re
from datetime import UTC, datetime
from typing import Any, Final, cast

import msgspec

from itwin_async._core.json import NOT_DECODED, decoder, why_not_decoded
from itwin_async._core.secrets import SecretValue
from itwin_async.webhooks.events import EVENT_TYPES, WebhookEvent

_ALGORITHM: Final = b"sha256"
_ENVELOPE: Final = {
    name.lower(): name
    for name in ("eventType", "messageId", "webhookId", "iTwinId", "enqueuedDateTime", "content")
}
# Month, day, year, and the time of a twelve-hour clock; .NET puts a narrow space before AM and PM.
_US_DATE: Final = re.compile(
    r"(\d{1,2})/(\d{1,2})/(\d{4})\s+(\d{1,2}):(\d{2}):(\d{2})\s*([AP])M", re.IGNORECASE | re.ASCII
)
_NARROW_SPACE: Final = "\u202f"


def verify(body: bytes, signature: str | None, secret: str) -> WebhookEvent:
    """The event of a webhook's delivery, after its signature was checked in constant time.

    ``body`` is the request's body as it arrived, byte for byte; ``signature`` is its header
    ``Signature``, None where there is none; ``secret`` is the webhook's. Answer 401 for the
    `ValueError` of a signature that is missing or wrong, and of a body that is no event.

    Check first, answer 200 within five seconds, and work later: a delivery that is not answered in
    time comes again, with the same ``message_id``.
    Platform page: https://developer.bentley.com/apis/webhooks-v2/

    Example::

        event = verify(body, headers.get("Signature"), secret)
        if isinstance(event, ChangesReady):
            print(event.imodel_id, event.changeset_index)
    """
    header, key = SecretValue(signature), SecretValue(secret)
    del signature, secret  # secrets in frames: docs/adr/0008
    if not isinstance(body, bytes | bytearray | memoryview):
        raise TypeError(f"body must be the bytes that arrived, not {type(body).__name__}")
    _check_signature(body, header, key)
    return _read_event(body)


def _check_signature(body: bytes, header: SecretValue, key: SecretValue) -> None:
    if not isinstance(key.value, str):
        raise TypeError(f"secret must be a str, not {type(key.value).__name__}")
    if not key.value:
        raise ValueError("secret must not be empty")
    if header.value is None:
        raise ValueError("the delivery has no signature: its header Signature is missing")
    if not isinstance(header.value, str):
        raise TypeError(f"signature must be a str or None, not {type(header.value).__name__}")
    if not _is_signed(body, header, key):
        raise ValueError(
            "the signature is wrong: the delivery is not from the platform, its body was changed, "
            "or the secret is another webhook's"
        )


def _is_signed(body: bytes, header: SecretValue, key: SecretValue) -> bool:
    algorithm, _, digest = header.value.strip().encode(errors="replace").lower().partition(b"=")
    expected = hmac.digest(key.value.encode(errors="surrogatepass"), body, hashlib.sha256)
    return hmac.compare_digest(digest, expected.hex().encode()) and algorithm == _ALGORITHM


def _read_event(body: bytes) -> WebhookEvent:
    """The event in a body; `ValueError` if it is none."""
    try:
        envelope = _regular(decoder(dict[str, Any]).decode(body), _ENVELOPE)
        text = envelope.pop("enqueuedDateTime", None)
        envelope["enqueuedText"] = text if isinstance(text, str) else None
        envelope["enqueuedDateTime"] = _parse_date(text) if isinstance(text, str) else None
        event = msgspec.convert(envelope, WebhookEvent)
    except NOT_DECODED as error:
        why = why_not_decoded(error)
    else:
        return _typed(event, envelope)
    raise ValueError(f"the delivery is signed, and its body is no event: {why}")


def _typed(event: WebhookEvent, envelope: dict[str, Any]) -> WebhookEvent:
    """The event of its documented type; as it is where its content is not as documented."""
    kind = EVENT_TYPES.get(event.event_type)
    if kind is None:
        return event
    try:
        # Not strict: an index is text.
        fields = {**_regular(event.content, _names(kind)), **envelope}
        return msgspec.convert(fields, kind, strict=False)
    except msgspec.ValidationError:
        return event


@functools.cache  # of the few types there are
def _names(kind: type[WebhookEvent]) -> dict[str, str]:
    """The regular names of the fields, by these names in lower case."""
    return {field.encode_name.lower(): field.encode_name for field in msgspec.structs.fields(kind)}


def _regular(fields: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    """The known fields under their regular names: the platform writes imodelId and iModelId."""
    known = ((names.get(key.lower()), value) for key, value in fields.items())
    return {name: value for name, value in known if name is not None and value is not None}


def _parse_date(text: str) -> datetime | None:
    """A date in the platform's US form, or in that of ISO 8601; UTC where it has no zone."""
    found = _US_DATE.fullmatch(text.replace(_NARROW_SPACE, " ").strip())
    try:
        if found is None:
            moment = datetime.fromisoformat(text)
            return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        month, day, year, hour, minute, second = map(int, found.groups()[:6])
        if not 1 <= hour <= 12:
            return None
        hour = hour % 12 + (12 if cast("str", found[7]).upper() == "P" else 0)
        return datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        return None
