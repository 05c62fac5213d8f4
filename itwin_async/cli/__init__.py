"""The command ``itwin-async``: tables on a terminal, JSON lines in a pipe.

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
141   the reader of the output went away
143   stopped by SIGTERM
====  ================================================================
"""

import sys
from collections.abc import Sequence

from itwin_async.cli._errors import missing_extra

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line (``sys.argv`` without ``arguments``) and exit with its code."""
    try:
        from itwin_async.cli._app import run  # noqa: PLC0415 - it imports the extra
    except ModuleNotFoundError as error:
        hint = missing_extra(error)
        if hint is None:
            raise
        sys.exit(f"itwin-async: {hint}")
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))
