"""Check built pages: ``python scripts/check_pages.py docs/_build/html``.

Every internal link leads to an existing page and anchor, and opening a page contacts no other host.
External links are not followed.
"""

import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADED = {"audio", "embed", "iframe", "img", "input", "link", "script", "source", "video"}
NOT_LOADED = {
    "canonical",
    "index",
    "next",
    "prev",
    "search",
}  # links that only say where things are
OUTSIDE = re.compile(r"""@import|url\(\s*["']?(?:https?:)?//""")


class Page(HTMLParser):
    """What a page links to, what it loads, and its anchors."""

    def __init__(self, path: Path) -> None:
        """Parse it."""
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """See `HTMLParser`."""
        values = {name: value or "" for name, value in attrs}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        for name in ("href", "src"):
            if name in values and tag != "base":
                loaded = tag in LOADED and values.get("rel") not in NOT_LOADED
                (self.loads if loaded else self.links).append(values[name])


def problems(root: Path) -> list[str]:
    """What is wrong with the pages below a directory."""
    pages = {path.resolve(): Page(path) for path in root.rglob("*.html")}
    found = [
        f"{path.relative_to(root)}: loads something from another host"
        for path in root.rglob("*.css")
        if OUTSIDE.search(path.read_text(encoding="utf-8"))
    ]
    for path, page in pages.items():
        where = path.relative_to(root.resolve())
        for link in [*page.links, *page.loads]:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                if link in page.loads and parts.scheme != "data":
                    found.append(f"{where}: loads {link}")
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.exists():
                found.append(f"{where}: there is no {link}")
            elif target in pages and unquote(parts.fragment) not in pages[target].anchors | {""}:
                found.append(f"{where}: there is no such anchor: {link}")
    if not pages:
        found.append(f"there is no page below {root}")
    return sorted(set(found))


def main() -> int:
    """Print what is wrong; 1 if anything is."""
    found = problems(Path(sys.argv[1]))
    print(
        "\n".join(found)
        if found
        else "Every internal link is valid, and nothing is loaded from other hosts."
    )
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
