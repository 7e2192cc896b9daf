"""System programs that some tests want."""

from __future__ import annotations

import os
import shutil

import pytest

NO_SKIPS = "SOCS_BL_NO_SKIPS"


def missing(what: str) -> None:
    """Skip the test for want of `what`; fail it where SOCS_BL_NO_SKIPS=1 says that everything must be there."""
    if os.environ.get(NO_SKIPS) == "1":
        pytest.fail(f"{what} is missing, and {NO_SKIPS}=1 wants every test to run", pytrace=False)
    pytest.skip(f"{what} is missing")


def need_program(*names: str) -> str:
    """The path of the first program of `names` that is installed; without any, see `missing`."""
    for name in names:
        if path := shutil.which(name):
            return path
    missing(f"program {' or '.join(names)}")
    raise AssertionError("missing() does not return")
