"""Webhooks of the service application; there are none at the beginning."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from urllib.parse import urlsplit


@dataclass(slots=True)
class Webhook:
    """One webhook; its secret signs what is sent to ``callback_url``."""

    id: str
    scope: str
    scope_id: str
    callback_url: str
    event_types: Sequence[str]
    secret: str = field(repr=False)
    created: str
    modified: str
    active: bool = False


def is_loopback(url: str) -> bool:
    """Whether the address is on this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
