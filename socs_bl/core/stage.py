"""What a stage of the data flow is: one piece of work on one file, offered by a package of stages.

A package offers its stages by entry points of the group `socs_bl.dataflow.stages` (name -> ``module:Class``). The engine
finds them there and runs their work in a child process; rooms that offer stages and the room that runs them share only this.
"""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Any, ClassVar, Protocol

import msgspec
from pydantic import BaseModel

ENTRY_POINTS = "socs_bl.dataflow.stages"


class Verdict(enum.StrEnum):
    """What the work says about the file it was given."""

    OK = "ok"
    SUSPECT = "suspect"  # readable, but something about it is not as it should be: a person looks
    BAD = "bad"  # the file itself is broken
    TOOL_ERROR = "tool_error"  # the work could not be done; nothing is known about the file, so it stays where it is


class StageResult(msgspec.Struct, frozen=True, kw_only=True):
    """What the work of a stage answers.

    Attributes
    ----------
    outputs : tuple of Path
        Files that were made, whole and on disk, below the output directory.
    verdict : Verdict
        About the input.
    reason : str
        What was found and where; empty when all is well.
    metadata : dict
        What was learnt about the file (``cp``, ``records``...), for the catalogue and for ``when`` expressions.
    """

    outputs: tuple[Path, ...] = ()
    verdict: Verdict = Verdict.OK
    reason: str = ""
    metadata: dict[str, str | int | float] = {}


class Stage(Protocol):
    """A stage as its entry point gives it: a class that is never instantiated."""

    kind: ClassVar[str]
    """``inspect``, ``transform``, ``derive`` or ``route``."""

    parameters: ClassVar[type[BaseModel]]
    """What may be set in the pipeline; unknown names are refused."""

    @staticmethod
    def work(input: Path, output_directory: Path, parameters: Any) -> StageResult:
        """Do it; runs in a process of its own, so it may block, use memory and be killed."""
        ...
