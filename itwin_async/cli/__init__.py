"""The command ``itwin-async``: the platform in a terminal, tables for people, lines for programs.

Exit codes:

====  ================================================================
0     done
1     failed: the platform, the network, a file
2     wrong usage
3     not found
4     not authorised, or no credentials
5     rate limited for longer than is worth waiting
6     done, but some extended data was left out
130   stopped by Ctrl-C
141   whoever read the output went away
143   stopped by SIGTERM
====  ================================================================
"""

import sys
from collections.abc import Sequence
from typing import Final

__all__ = ["main"]
_EXTRAS: Final = {"cyclopts", "rich"}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line (``sys.argv`` without ``arguments``), and exit with its code."""
    try:
        from itwin_async.cli._app import run  # noqa: PLC0415 - it imports the extra
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in _EXTRAS:
            raise
        sys.exit(f"itwin-async: the command line needs {missing}: pip install 'itwin-async[cli]'")
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))
