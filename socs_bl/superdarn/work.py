"""What the stages of this room share: who is to blame when something fails, and outputs that appear whole or not at all.

A tool that fails says nothing about the data: a missing library, a full disk or too little memory is `tool_error`, and the file
stays where it is. Only what was read from the file itself makes it `bad`.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ParamSpec

from pydantic import BaseModel, ConfigDict

from socs_bl.core.errors import Refused, Retry
from socs_bl.core.stage import StageResult, Verdict

INSTALL = "pip install 'socs_bl[superdarn]'"
READ_BYTES = 1 << 20

_P = ParamSpec("_P")
# What readers raise when they meet data that are not what they should be; and, alas, when they are broken themselves.
_BROKEN_DATA: tuple[type[Exception], ...] = (
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    RuntimeError,
    ArithmeticError,
)


class NoParameters(BaseModel):
    """A stage that has nothing to set."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Broken(Exception):
    """The file is broken; the text says how and where."""


class ToolFailed(Exception):
    """The work could not be done, and not for the file's sake; the text says what to do."""


def judged(work: Callable[_P, StageResult]) -> Callable[_P, StageResult]:
    """Turn what `work` raises into a verdict: `Broken` and `Refused` names are bad, the tool's failures are tool errors.

    `Retry` (the file is not at rest) passes; everything else is a fault in the program and ends its process.
    """

    @functools.wraps(work)
    def answering(*arguments: _P.args, **named: _P.kwargs) -> StageResult:
        try:
            return work(*arguments, **named)
        except (Broken, Refused) as error:
            return StageResult(verdict=Verdict.BAD, reason=str(error))
        except ToolFailed as error:
            return StageResult(verdict=Verdict.TOOL_ERROR, reason=str(error))
        except ModuleNotFoundError as error:
            return StageResult(verdict=Verdict.TOOL_ERROR, reason=f"{error}; install it: {INSTALL}")
        except (OSError, MemoryError, ImportError) as error:
            return StageResult(verdict=Verdict.TOOL_ERROR, reason=_text(error))

    return answering


@contextlib.contextmanager
def reading(path: Path, tool_works: Callable[[], str], *also: type[Exception]) -> Iterator[None]:
    """Around a library that reads `path`: decide whether its exception speaks of the file or of the library.

    Parameters
    ----------
    path : Path
        Named in the verdict.
    tool_works : callable
        Tries the library on data known to be good; answers what went wrong, or an empty text. Asked only after a failure, so that
        a broken installation does not condemn every file it meets.
    *also : exception types
        The library's own, beside those that broken data raise in any reader.

    Raises
    ------
    Broken
        When the data are to blame.
    ToolFailed
        When the library, the disk or the memory is.
    Retry
        When another process has the file open to write.
    """
    try:
        yield
    except (*_BROKEN_DATA, *also) as error:
        for cause in _chain(error):
            if isinstance(cause, BlockingIOError):
                raise Retry(f"{path} is locked by who writes it; try again when it is complete", after=60.0) from error
            if isinstance(cause, (MemoryError, ImportError)) or (isinstance(cause, OSError) and cause.errno):
                raise ToolFailed(f"{path.name}: {_text(cause)}") from error
        if failure := tool_works():
            raise ToolFailed(f"the reader fails on good data too ({failure}); repair the installation") from error
        raise Broken(f"{path.name}: {_text(error)}") from error


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The exception and those it came from: pydarnio wraps whatever it meets."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__


def _text(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split()):.400}"


@contextlib.contextmanager
def unchanged(path: Path) -> Iterator[os.stat_result]:
    """Around work on a whole file: `Retry` at the end when it was written to, replaced or removed meanwhile.

    Inside `whole`, so that such work leaves no output.
    """
    before = path.stat()
    yield before
    try:
        after = path.stat()
    except FileNotFoundError:
        raise Retry(f"{path} vanished while it was worked on; look again") from None
    if (before.st_size, before.st_mtime_ns, before.st_ino) != (after.st_size, after.st_mtime_ns, after.st_ino):
        raise Retry(f"{path} changed while it was worked on; try again when it is complete", after=60.0)


@contextlib.contextmanager
def whole(output: Path) -> Iterator[Path]:
    """A path to write that becomes `output` at the end, or nothing: in a private folder, to disk, then renamed.

    The path has the same last name as `output`: libraries look at endings, and names get into products. What was at `output` is
    replaced, so doing the work twice gives the same file, never one appended to the other.

    Raises
    ------
    OSError
        When it cannot be written; `output` is then what it was.
    """
    folder = Path(tempfile.mkdtemp(prefix=".", suffix=".part", dir=output.parent))
    try:
        path = folder / output.name
        yield path
        sync(path)
        os.replace(path, output)
        sync(output.parent)
    finally:
        shutil.rmtree(folder)


def sync(path: Path) -> None:
    """Bring a file, or a directory's entries, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def like(path: Path, seen: os.stat_result) -> None:
    """Give `path` the time and mode of the file that it was made from."""
    os.chmod(path, seen.st_mode & 0o777)
    os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns))
