"""``.. pipelinefs-readmes::`` shows the READMEs of pipelinefs, made at build time from the table that the tree is made of."""

from __future__ import annotations

from collections.abc import Iterator

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from socs_bl.correlator.pipelinefs import table


def readmes(branch: table.Branch) -> Iterator[str]:
    """The README of a directory, then those of the directories below it."""
    yield branch.literal[table.README].row.read(None)
    for child in branch.below():
        if child.row.kind == "directory":
            yield from readmes(child)


class Readmes(SphinxDirective):
    """Each README as a block of text."""

    def run(self) -> list[nodes.Node]:
        """Make the nodes."""
        self.env.note_dependency(str(table.__file__))
        return [nodes.literal_block(text, text, language="text") for text in readmes(table.grow())]


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("pipelinefs-readmes", Readmes)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
