"""Standard output for people: rich's console on our own stream. Imported where it is needed."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NoReturn

from rich.console import Console, ConsoleOptions, RenderableType
from rich.highlighter import JSONHighlighter
from rich.segment import Segment
from rich.text import Text

from itwin_async.cli._stdio import Stdout, as_file
from itwin_async.cli._tables import list_table, record_table
from itwin_async.cli._text import escaped

_LINE_END: Final = re.compile(r"(?<=\S)\n(?=\S)")


class Screen(Console):
    """A console on standard output, for which a closed pipe is an error like any other."""

    def __init__(self) -> None:
        super().__init__(file=as_file(Stdout()))

    def on_broken_pipe(self) -> NoReturn:
        """Raise instead of ending the process, as rich would, with a code of its own."""
        raise BrokenPipeError


class HelpScreen(Screen):
    """A screen for help, whose paragraphs fold at its width, and not where lines of code ended."""

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Render a text with its lines joined; blank lines stay."""
        if isinstance(renderable, Text):
            renderable = renderable.copy()
            renderable.plain = _LINE_END.sub(" ", renderable.plain)
        return super().render(renderable, options)


def print_json(text: str) -> None:
    """Print JSON in colours."""
    screen = Screen()
    screen.print(JSONHighlighter()(escaped(text, screen.encoding)), soft_wrap=True)


def print_record(fields: Mapping[str, object]) -> None:
    """Print the fields of an object below each other."""
    screen = Screen()
    screen.print(record_table(fields, screen.width, screen.encoding))


def print_list(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table."""
    screen = Screen()
    screen.print(list_table(columns, rows, screen.width))
