"""The pages of the sign-in host: plain, escaped, without scripts."""

from collections.abc import Iterable
from html import escape
from typing import Final

from itwin_async.emulator._identity.oauth import NO_STORE
from itwin_async.emulator._identity.users import User
from itwin_async.emulator._response import Response

_STYLE: Final = (
    "body{font:1rem/1.5 sans-serif;max-width:30rem;margin:3rem auto;padding:0 1rem}"
    "button{display:block;width:100%;margin:.5rem 0;padding:.6rem;font:inherit;text-align:left}"
)
_HEADERS: Final = {
    **NO_STORE,
    # No form-action: browsers would hold the redirect after the form to it.
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline';"
    " frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_RIGHTS: Final = {
    "owner": "may read and write",
    "reader": "may read",
    "none": "has no access",
}


def page(title: str, body: str, *, status: int = 200) -> Response:
    """A page of this escaped title and this HTML."""
    html = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{_STYLE}</style><h1>{escape(title)}</h1>{body}</html>\n"
    )
    return Response(
        status=status, raw=html.encode(), content_type="text/html; charset=utf-8", headers=_HEADERS
    )


def message_page(title: str, message: str, *, status: int = 200) -> Response:
    """A page with one sentence."""
    return page(title, f"<p>{escape(message)}</p>", status=status)


def sign_in_page(client_id: str, scopes: Iterable[str], users: Iterable[User]) -> Response:
    """The users to choose from, and a button to refuse. The form posts to its own address."""
    buttons = "".join(
        f'<button name="user" value="{escape(user.name)}">{escape(user.display_name)}'
        f" ({escape(user.email)}, {_RIGHTS[user.rights]})</button>"
        for user in users
    )
    return page(
        "Sign in to the emulator",
        f"<p>{escape(client_id)} asks for: {escape(' '.join(scopes))}</p>"
        f'<form method="post">{buttons}<button name="refuse" value="yes">Refuse</button></form>',
    )
