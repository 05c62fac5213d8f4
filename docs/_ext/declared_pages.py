"""The directives ``operation-groups`` and ``records``, made from the declared operations."""

from typing import Any, ClassVar

from declared import GROUPS, records
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


class _Generated(SphinxDirective):
    """A directive that stands for lines of reStructuredText."""

    def parse(self, *lines: str) -> list[nodes.Node]:
        """Parse them where the directive stands."""
        text = "\n".join(["```{eval-rst}", ".. currentmodule:: itwin_async", "", *lines, "```"])
        return self.parse_text_to_nodes(text)


class OperationGroups(_Generated):
    """Each group of a session with its methods."""

    def run(self) -> list[nodes.Node]:
        """See docutils."""
        return self.parse(
            *(
                f".. autoclass:: {group.__name__}()\n   :inherited-members:\n"
                for group in GROUPS.values()
            )
        )


class Records(_Generated):
    """The public records of one API."""

    required_arguments: ClassVar = 1

    def run(self) -> list[nodes.Node]:
        """See docutils."""
        found = records(self.arguments[0])
        return self.parse(*(f".. autoclass:: {name}()\n   :undoc-members:\n" for name in found))


def setup(app: Sphinx) -> dict[str, Any]:
    """See Sphinx."""
    app.add_directive("operation-groups", OperationGroups)
    app.add_directive("records", Records)
    return {"parallel_read_safe": True}
