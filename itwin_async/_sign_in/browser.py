"""Opening an address in a browser, or showing it to whoever has one."""

import asyncio
import contextlib
import importlib
import inspect
import os
import sys
from collections.abc import Callable
from html import escape
from typing import Any, TypeAlias, cast

from itwin_async._aio.threads import DedicatedThread

OpenBrowser: TypeAlias = bool | Callable[[str], object]


class _Link:
    """What a notebook shows where no browser was opened."""

    def __init__(self, url: str) -> None:
        self._url = url

    def __repr__(self) -> str:
        return f"Open this address to sign in: {self._url}"

    def _repr_html_(self) -> str:
        return link_html(self._url)


def link_html(url: str) -> str:
    return f'<a href="{escape(url)}" target="_blank" rel="noopener noreferrer">Sign in</a>'


async def open_address(open_browser: OpenBrowser, url: str) -> None:
    """Open an address as it is wished; where nothing opens, show it."""
    if callable(open_browser):
        opened = open_browser(url)
        if isinstance(opened, asyncio.Future):
            await asyncio.shield(cast("asyncio.Future[object]", opened))  # its owner's
        elif inspect.isawaitable(opened):
            await opened
    elif not (open_browser and await in_browser(url)):
        await _show(url)


async def in_browser(url: str) -> bool:
    """Open an address in the user's browser; whether there is one."""
    thread = DedicatedThread("browser")
    try:
        return await thread.start(_in_browser, url)
    finally:
        thread.close()


def _in_browser(url: str) -> bool:
    import webbrowser  # noqa: PLC0415 - only a sign-in needs it, and not each import of the library

    if "BROWSER" not in os.environ:
        with contextlib.suppress(webbrowser.Error):
            if type(webbrowser.get()) is webbrowser.GenericBrowser:
                return False  # one for terminals, which would take ours
    return webbrowser.open(url)


async def _show(url: str) -> None:
    ipython: Any = sys.modules.get("IPython")
    if ipython is not None and ipython.get_ipython() is not None:
        importlib.import_module("IPython.display").display(_Link(url))
        return
    stderr: Any = sys.stderr
    if stderr is None:
        return
    thread = DedicatedThread("link")
    try:
        await thread.start(stderr.write, f"{_Link(url)!r}\n")
    finally:
        thread.close()


def check_open_browser(open_browser: OpenBrowser) -> None:
    """`TypeError` unless this is a bool or callable."""
    given: object = open_browser
    if not isinstance(given, bool) and not callable(given):
        raise TypeError(
            f"open_browser must be a bool or a callable that takes the address, not "
            f"{type(given).__name__}"
        )
