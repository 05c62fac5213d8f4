"""Write what is made from the declared operations, and the dump of the public API: `make generate`.

    python scripts/generate.py [--check]

In a page of Markdown, the text between ``<!-- generated: NAME -->`` and ``<!-- end -->`` is written
here. With --check nothing is written, and what is stale is named.
"""

import argparse
import re
import sys
from pathlib import Path

from declared import DECLARED, OPERATIONS
from public_api import public_api

ROOT = Path(__file__).parent.parent
DUMP = ROOT / "tests" / "public_api.txt"
_PLACE = re.compile(r"(<!-- generated: ([\w-]+) -->)(.*?)(<!-- end -->)", re.DOTALL)


def operations() -> str:
    """A table of methods and the requests that they send."""
    rows = [
        f"| `{group}.{name}` | `{operation}` |"
        for group, found in DECLARED.items()
        for name, operation in found.items()
    ]
    return "\n".join(["", "| method | platform |", "| --- | --- |", *rows, ""])


def operation_count() -> str:
    """How many operations have a method."""
    return str(len(OPERATIONS))


PARTS = {"operations": operations, "operation-count": operation_count}


def generated() -> dict[Path, str]:
    """Every file with something generated in it, as it has to be."""
    files = {DUMP: public_api()}
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        text = path.read_text(encoding="utf-8")
        if "_build" not in path.parts and _PLACE.search(text):
            files[path] = _PLACE.sub(lambda found: f"{found[1]}{PARTS[found[2]]()}{found[4]}", text)
    return files


def stale() -> dict[Path, str]:
    """Those that are not as they have to be."""
    return {
        path: text
        for path, text in generated().items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    }


def main() -> int:
    """Write or check; 1 if something was to be written and --check was given."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; name what is stale")
    check = parser.parse_args().check
    found = stale()
    for path, text in found.items():
        print(f"{path.relative_to(ROOT)} is stale: run `make generate`" if check else path.name)
        if not check:
            path.write_text(text, encoding="utf-8")
    return 1 if check and found else 0


if __name__ == "__main__":
    sys.exit(main())
