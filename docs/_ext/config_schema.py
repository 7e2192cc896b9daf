"""``.. config-schema:: module.Model`` shows the JSON schema of a configuration, made from the model at build time.

With ``:file: site-configs/commensal.yaml`` the example of that path is checked against the model first, so that an
example that is no longer accepted ends the build.
"""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from socs_bl.core.config import load

ROOT = Path(__file__).resolve().parents[2]


class ConfigSchema(SphinxDirective):
    """The schema of one model as a block of JSON."""

    required_arguments = 1
    option_spec: ClassVar[dict[str, Any]] = {"file": directives.unchanged}

    def run(self) -> list[nodes.Node]:
        """Make the nodes."""
        module_name, _, class_name = self.arguments[0].rpartition(".")
        module = importlib.import_module(module_name)
        model = getattr(module, class_name)
        self.env.note_dependency(str(module.__file__))
        if "file" in self.options:
            example = ROOT / self.options["file"]
            self.env.note_dependency(str(example))
            load(example, model)
        text = json.dumps(model.model_json_schema(), indent=2)
        block = nodes.literal_block(text, text)
        block["language"] = "json"
        return [block]


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("config-schema", ConfigSchema)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
