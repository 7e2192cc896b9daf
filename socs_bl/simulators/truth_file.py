"""What was injected, as a file: one JSON record for people, and for those who compare afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import msgspec

from socs_bl.core.errors import Refused
from socs_bl.core.whole_file import write_whole

TruthT = TypeVar("TruthT", bound=msgspec.Struct)


def write_truth(path: Path, truth: msgspec.Struct) -> None:
    """Write the truth as JSON, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, msgspec.json.format(msgspec.json.encode(truth), indent=1))


def read_truth(path: Path, kind: type[TruthT]) -> TruthT:
    """Read what `write_truth` wrote.

    Raises
    ------
    Refused
        When there is no such file or it holds something else.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except OSError as error:
        raise Refused(f"{path}: cannot be read ({error.strerror}); was anything ever observed?") from error
    except msgspec.DecodeError as error:
        raise Refused(
            f"{path}: does not say what was injected ({error}); give the file that the simulated instrument wrote"
        ) from error
