"""What one writer has of an integration: some window of some baselines and antennas."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from socs_bl.core.errors import Refused

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Piece:
    """Spectra of one window, with what belongs to them. Data, flags, times and durations of a kind come together.

    Attributes
    ----------
    window : int
        Position in the header.
    baselines, antennas : int array or None
        Which rows the arrays have, in their order; None: all of the file.
    cross : complex64 array or None
        (baselines, bins, channels, products).
    auto : float32 array or None
        (antennas, bins, channels, values); a mixed product's values are its real and imaginary part.
    cross_flags, auto_flags : int32 array or None
        (baselines, bins, products) and (antennas, bins, products); 0 is good.
    cross_times, auto_times : int64 array or None
        Middle of what was integrated, ns since MJD 0; shapes as the flags.
    cross_durations, auto_durations : int64 array or None
        What was integrated, ns; shapes as the flags.
    """

    window: int
    baselines: Array | None = None
    antennas: Array | None = None
    cross: Array | None = None
    auto: Array | None = None
    cross_flags: Array | None = None
    auto_flags: Array | None = None
    cross_times: Array | None = None
    auto_times: Array | None = None
    cross_durations: Array | None = None
    auto_durations: Array | None = None

    def tables(self) -> Iterator[tuple[str, Array | None, dict[str, Array]]]:
        """The kinds it has: ``cross`` or ``auto``, the rows, and the array of each part.

        Raises
        ------
        Refused
            When data, flags, times and durations of a kind are not all there.
        """
        kinds = (
            (
                "cross",
                self.baselines,
                "crossData",
                self.cross,
                self.cross_flags,
                self.cross_times,
                self.cross_durations,
            ),
            ("auto", self.antennas, "autoData", self.auto, self.auto_flags, self.auto_times, self.auto_durations),
        )
        for kind, rows, name, *arrays in kinds:
            given = [np.asarray(array) for array in arrays if array is not None]
            if len(given) not in (0, len(arrays)):
                raise Refused(
                    f"window {self.window}: {kind} data, flags, times and durations belong together; give all"
                )
            if given:
                yield kind, rows, dict(zip((name, "flags", "actualTimes", "actualDurations"), given, strict=True))
