"""Compiled loops: numba's `njit` with a type that mypy keeps."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

import numba

LoopT = TypeVar("LoopT", bound=Callable[..., object])


def kernel(function: LoopT) -> LoopT:
    """Compile `function` at its first call, without the interpreter lock; the machine code is kept on disk."""
    return cast(LoopT, numba.njit(cache=True, nogil=True)(function))
