"""``python -m itwin_async`` is the command ``itwin-async``."""

from itwin_async.cli import main

if __name__ == "__main__":
    main()
