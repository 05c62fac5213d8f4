"""``itwin-async auth``."""

import asyncio
import sys
from typing import Annotated, Final

from cyclopts import App, Parameter

from itwin_async import ITwinError, ITwinSession
from itwin_async._aio.threads import in_thread
from itwin_async.cli._errors import CredentialsError
from itwin_async.cli._login import Login, find_login
from itwin_async.cli._options import DEFAULTS, Flag, Options
from itwin_async.cli._output import write, write_record
from itwin_async.cli._session import with_session
from itwin_async.cli._stdio import Stderr, print_error
from itwin_async.sign_in import SignInFlow, in_browser

app: Final = App(name="auth")


@app.command
def login(
    *,
    no_browser: Flag = False,
    redirect_uri: Annotated[list[str] | None, Parameter(negative="")] = None,
    options: Options = DEFAULTS,
) -> None:
    """Sign in with a browser; other commands use this login from then on.

    Example: itwin-async auth login --client-id native-abc123

    Args:
        no_browser: Print the address to open, and ask for the one the browser is sent to.
        redirect_uri: A loopback address that the client is registered with, once for each;
            http://localhost:3000/signin-callback by default.
        options: See `Options`.
    """
    found = _find(options)
    found = found.with_redirects(tuple(redirect_uri or ()))

    async def sign_in(itwin: ITwinSession) -> None:
        if no_browser:
            await in_thread(found.check_store)  # before the person does anything, as in `sign_in`
            await _finish(itwin.begin_sign_in())
        else:
            await itwin.sign_in(open_browser=_open)
        try:
            me = await itwin.get_me()
        except ITwinError:
            print_error("signed in")
        else:
            print_error(f"signed in as {me.display_name or me.id}")

    with_session(options, sign_in, login=found)
    found.save_profile()


@app.command
def logout(*, options: Options = DEFAULTS) -> None:
    """Sign out: revoke the refresh token and delete it.

    Example: itwin-async auth logout

    Args:
        options: See `Options`.
    """

    async def sign_out(itwin: ITwinSession) -> None:
        await itwin.sign_out()
        print_error("signed out")

    found = _find(options)
    if not found.is_stored:
        print_error("nobody is signed in")
        return
    with_session(options, sign_out, login=found)


@app.command
def whoami(*, options: Options = DEFAULTS) -> None:
    """Show who is signed in.

    Example: itwin-async auth whoami

    Args:
        options: See `Options`.
    """
    write_record(options, with_session(options, lambda itwin: itwin.get_me(), prefer_login=True))


@app.command
def token(*, options: Options = DEFAULTS) -> None:
    """Print an access token for curl and other tools; it lasts an hour.

    Example: curl -H "Authorization: Bearer $(itwin-async auth token)"
    https://api.bentley.com/users/me

    Args:
        options: See `Options`.
    """
    found = with_session(options, lambda itwin: itwin.get_token(), prefer_login=True)
    write(f"{found.value}\n".encode())


def _find(options: Options) -> Login:
    if options.emulator:
        raise ValueError("--emulator has nobody to sign in: run itwin-async emulator instead")
    return find_login(options.profile, options.client_id, options.base_url)


async def _open(url: str) -> None:
    if await in_browser(url):
        Stderr().write(f"If no browser opened, open this address:\n{url}\n")
    else:
        Stderr().write(
            f"Open this address in a browser on this machine, or stop this and use --no-browser:\n"
            f"{url}\n"
        )


async def _finish(flow: SignInFlow) -> None:
    """Ask for the address until it is that of this sign-in."""
    Stderr().write(
        f"Open this address in a browser, on any machine:\n{flow.url}\nThen paste the address that "
        "it was sent to, also where its page cannot be shown, and press Enter:\n"
    )
    while True:
        line = await asyncio.to_thread(sys.stdin.readline)
        if not line.strip():
            raise CredentialsError("no address was given: run the command again")
        try:
            return await flow.finish(line)
        except ValueError as error:
            Stderr().write(f"{error}\n")
