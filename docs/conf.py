"""Sphinx configuration: ``make docs``, or ``sphinx-build -W -b html docs docs/_build/html`` from the top."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE / "_ext")]

from socs_bl import __version__  # noqa: E402 - found only now

project = "socs_bl"
author = "socs_bl developers"
copyright = f"2026, {author}"
version = release = __version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinxarg.ext",
    "config_schema",
    "pipelinefs_readmes",
]
exclude_patterns = ["_build", "examples"]
html_theme = "sphinx_rtd_theme"
# ``sphinx-build -b man docs docs/_build/man``
man_pages = [
    ("man/pipelinefs", "pipelinefs", "mount the correlator's back end as a file system", author, 1),
    ("man/wcbe-setup", "wcbe-setup", "make an instance of the correlator's back end ready", author, 1),
]

# Names in single backticks in docstrings are links where the page of the name exists.
default_role = "py:obj"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
# The first line of an operation's docstring is how a client calls it; see CONTRIBUTING.rst.
autodoc_docstring_signature = True
napoleon_use_ivar = True
# Docstrings name types by their bare noun, and rooms share nouns (Target, Instance): such a name may fit several.
suppress_warnings = ["ref.python"]
