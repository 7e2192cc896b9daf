"""The data flow: what its parts cost, each in a module of its own with ``rows(quick)``."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import dataflow_catalogue
import dataflow_transfer
from report import arguments, publish

PARTS = (dataflow_catalogue, dataflow_transfer)

if __name__ == "__main__":
    options = arguments(__doc__ or "")
    publish([row for part in PARTS for row in part.rows(options.quick)], options.json)
