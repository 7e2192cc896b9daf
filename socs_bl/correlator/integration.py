"""Dumps to integrations: the grid of time they hang on, and the sums of one group of products.

The grid hangs on the epoch, so that all pipelines and nodes cut at the same places without talking: a dump that starts
at ``t`` has number ``(t + d // 2) // d`` for dumps of length ``d``, and dump ``k`` belongs to integration ``k // n``.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from socs_bl.correlator.pipeline import Recipe
from socs_bl.correlator.plan import GOOD, MISSING, Group
from socs_bl.correlator.spectrum import Transform, vector_loop


class Grid(NamedTuple):
    """Length of a dump in ns, and dumps of an integration."""

    dump_ns: int
    dumps: int

    @property
    def interval_ns(self) -> int:
        """Length of an integration."""
        return self.dump_ns * self.dumps

    def place(self, time_ns: int) -> tuple[int, int]:
        """Integration that a dump which starts at this time (unix ns) belongs to, and which of its dumps it is."""
        return divmod((time_ns + self.dump_ns // 2) // self.dump_ns, self.dumps)

    def start_ns(self, time_ns: int) -> int:
        """Exact start of the integration that the dump of this time belongs to: what dumps are off the grid included."""
        return time_ns - self.place(time_ns)[1] * self.dump_ns


class Spectra(NamedTuple):
    """What came out for one group.

    Attributes
    ----------
    values : complex64 array, (products, bins, channels)
        0 where there is nothing valid.
    dumps : int32 array, (products, bins)
        Dumps that went in; 0: nothing valid.
    offsets : float64 array, (products, bins)
        Their mean number within the integration; that of the middle where there are none.
    """

    values: npt.NDArray[np.complex64]
    dumps: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.float64]


class Sums:
    """Sums of one group over an integration.

    Lags and counts are summed as float64, exact up to 2**53: two million dumps of the largest lags.

    Parameters
    ----------
    group : Group
    recipe : Recipe

    Raises
    ------
    Refused
        When the recipe does not fit the lags.
    """

    def __init__(self, group: Group, recipe: Recipe) -> None:
        self.group = group
        self.recipe = recipe
        self._transform = Transform(group.lags, group.frames, recipe)
        sets = len(group.products) * group.bins
        self._weights = np.zeros(sets, np.float32)
        self._dumps = np.zeros(sets, np.int32)
        self._offsets = np.zeros(sets)
        self._totals = np.zeros(sets)
        kind = np.complex64 if recipe.dumps == 1 else np.complex128  # of one dump nothing is summed
        self._spectra: npt.NDArray[Any] = np.zeros((sets, self._transform.channels), kind)
        self._fresh = True
        summed = sets if recipe.sums_lags else 0
        self._lags = np.zeros((summed, group.lags, 2))
        self._counts = np.zeros((summed, group.frames, 2))

    @property
    def nbytes(self) -> int:
        """Memory of the sums."""
        return self._spectra.nbytes + self._lags.nbytes + self._counts.nbytes

    def clear(self) -> None:
        """Begin a new integration."""
        self._fresh = True
        for sums in (self._dumps, self._offsets, self._totals, self._lags, self._counts):
            sums.fill(0)

    def add(self, slot: npt.NDArray[np.uint8], offset: int) -> int:
        """Add a dump.

        Parameters
        ----------
        slot : uint8 array
            Of the ring.
        offset : int
            Number of the dump within its integration.

        Returns
        -------
        int
            Lag sets that were left out.
        """
        group, sets = self.group, len(self._weights)
        state = group.state(slot).reshape(sets, group.frames)
        counts = group.counts(slot).reshape(sets, group.frames, 2)
        lags = group.lag_pairs(slot).reshape(sets, group.lags, 2)
        left_out = weigh(state, counts, self.recipe.keep_suspect, self._weights)
        good = self._weights > 0
        self._dumps += good
        self._offsets += offset * good
        self._totals += self._weights
        if self.recipe.sums_lags:
            add_lags(lags, counts, self._weights, self._lags, self._counts)
        else:
            self._transform.add(lags, counts, self._weights, self._spectra, self._fresh)
            self._fresh = False
        return left_out

    def result(self) -> Spectra:
        """Spectra (or normalised lags, without fft) of the dumps since `clear`; once for each integration."""
        group = self.group
        divisors = self._totals
        if self.recipe.sums_lags:
            divisors = (self._dumps > 0).astype(np.float64)
            self._transform.add(self._lags, self._counts, divisors.astype(np.float32), self._spectra, True)
        values = np.empty(self._spectra.shape, np.complex64)
        dumps = self._dumps.copy()
        numbers = self._spectra.view(self._spectra.real.dtype)
        settle(numbers, divisors, values.view(np.float32), dumps)
        middle = (self.recipe.dumps - 1) / 2
        offsets = np.where(dumps > 0, self._offsets / np.maximum(dumps, 1), middle)
        shape = (len(group.products), group.bins)
        return Spectra(values.reshape(*shape, -1), dumps.reshape(shape), offsets.reshape(shape))


@vector_loop
def settle(
    sums: npt.NDArray[np.float64] | npt.NDArray[np.float32],
    divisors: npt.NDArray[np.float64],
    values: npt.NDArray[np.float32],
    dumps: npt.NDArray[np.int32],
) -> None:
    """Divide sums; what has no dumps, or is not finite, becomes 0 and has none."""
    for item in range(sums.shape[0]):
        source, target = sums[item], values[item]
        factor = 1 / divisors[item] if dumps[item] > 0 else 0.0
        check = np.float32(0)
        for k in range(source.size):
            target[k] = np.float32(source[k] * factor)
            check += target[k] * np.float32(0)  # stays 0 unless one is not finite
        if check != 0 or dumps[item] == 0:
            target[:] = 0
            dumps[item] = 0


@vector_loop
def weigh(
    state: npt.NDArray[np.uint8], counts: npt.NDArray[np.uint32], keep_suspect: bool, weights: npt.NDArray[np.float32]
) -> int:
    """Weight of each lag set of a dump: its mean valid count; 0 when it has a bad frame or one without valid samples.

    Returns
    -------
    int
        Sets of weight 0.
    """
    left_out = 0
    for item in range(state.shape[0]):
        total = 0.0
        for frame in range(state.shape[1]):
            bad = state[item, frame] == MISSING or (state[item, frame] != GOOD and not keep_suspect)
            if bad or counts[item, frame, 0] == 0 or counts[item, frame, 1] == 0:
                total = 0.0
                left_out += 1
                break
            total += np.float64(counts[item, frame, 0]) + np.float64(counts[item, frame, 1])
        weights[item] = total / (2 * state.shape[1])
    return left_out


@vector_loop
def add_lags(
    lags: npt.NDArray[np.int32],
    counts: npt.NDArray[np.uint32],
    weights: npt.NDArray[np.float32],
    lag_sums: npt.NDArray[np.float64],
    count_sums: npt.NDArray[np.float64],
) -> None:
    """Add the sets whose weight is not 0 to the sums."""
    for item in range(lags.shape[0]):
        if weights[item] == 0:
            continue
        for k in range(lags.shape[1]):
            lag_sums[item, k, 0] += lags[item, k, 0]
            lag_sums[item, k, 1] += lags[item, k, 1]
        for frame in range(counts.shape[1]):
            count_sums[item, frame, 0] += counts[item, frame, 0]
            count_sums[item, frame, 1] += counts[item, frame, 1]
