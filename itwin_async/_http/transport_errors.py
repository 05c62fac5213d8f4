"""What `TransportError` says of each kind of fault: a sentence that names the host, and why."""

from typing import Final

from itwin_async._core.redaction import one_line
from itwin_async.errors import Reason, TransportError

# OpenSSL's codes of a chain that ends at a self-signed certificate or an unknown issuer.
_UNKNOWN_AUTHORITY: Final = frozenset({2, 18, 19, 20, 21})
_NOT_REACHED: Final[frozenset[Reason]] = frozenset({"dns", "refused", "unreachable"})
_SENTENCES: Final[dict[Reason, str]] = {
    "dns": "the name {host} cannot be resolved",
    "refused": "{host} refused the connection",
    "unreachable": "{host} cannot be reached: {why}",
    "tls": "no secure connection to {host}: {why}",
    "reset": "{host} closed the connection before it answered",
    "timeout": "{host} did not answer in time",
    "cut": "the answer from {host} was cut short",
    "malformed": "{host} answered with what is not HTTP: {why}",
}


def transport_error(reason: Reason, host: str, why: str, advice: str = "") -> TransportError:
    """The error of a fault of this kind. ``why`` quotes nothing of what a server sent.

    ``advice`` is for a host that was never reached.
    """
    sentence = _SENTENCES[reason].format(host=host, why=why)
    if advice and reason in _NOT_REACHED:
        sentence = f"{sentence}: {advice}"
    return TransportError(sentence, reason)


def proxy_error(status: int, host: str, proxy: str | None) -> TransportError:
    """The error of a proxy that answered in place of the host behind it; its address, if known."""
    named = "the proxy" if proxy is None else f"the proxy {proxy}"
    if status >= 500:  # of a tunnel: nothing went through it
        why = f"{host} cannot be reached: {named} answered {status}"
        return TransportError(why, "unreachable")
    hint = ", it wants a user and a password" if status == 407 else ""
    return TransportError(
        f"{named} refused a request to {host}: it answered {status}{hint}", "proxy"
    )


def why_not_connected(error: OSError) -> str:
    """What the system, or OpenSSL, says of a connection that was not made."""
    message = getattr(error, "verify_message", None) or error.strerror
    why = one_line(str(message), longest=120) if message else type(error).__name__
    if getattr(error, "reason", None) == "WRONG_VERSION_NUMBER":  # what a server of http answers
        return f"{why} (does this server speak http, and not https?)"
    unknown = getattr(error, "verify_code", None) in _UNKNOWN_AUTHORITY
    return f"{why} (trust its authority with SSL_CERT_FILE or ca_file)" if unknown else why
