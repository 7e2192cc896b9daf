"""Lag sets to spectra: normalised by valid counts, tapered, transformed, averaged over channels and added up.

With ``L`` lags of which ``c = L/2`` is the zero lag, ``r_k`` a normalised lag and ``w_k`` the window,
``S_m = (1/L) sum_k w_k r_k exp(-2 pi i m (k-c)/L)`` for ``m = 0 .. L/2-1``: for complex lags of one sideband the other half
is empty. The work goes in blocks that stay in the cache of a core: one compiled loop prepares a block (count, window,
order of the lags), scipy transforms it in place, another compiled loop averages it and adds it to the sums.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt
import scipy.fft

from socs_bl.correlator.pipeline import Recipe

LoopT = TypeVar("LoopT", bound=Callable[..., object])
BLOCK_BYTES = 1 << 20  # of the lags worked on at a time: what the second-level cache of a core holds
PADDING = 16  # lags between rows: rows a power of two apart would share few places of the cache
SpectrumSums = npt.NDArray[np.complex128] | npt.NDArray[np.complex64]


def vector_loop(function: LoopT) -> LoopT:
    """Compile a loop, without the interpreter lock, and so that it can become vectors.

    Division by 0 is not checked, and sums may be taken in any order.
    """
    return cast(LoopT, numba.njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc"})(function))


class Transform:
    """What a recipe does with lag sets of one shape.

    Parameters
    ----------
    lags, frames : int
        Of one set.
    recipe : Recipe

    Raises
    ------
    Refused
        When the recipe's span does not divide the channels.
    """

    def __init__(self, lags: int, frames: int, recipe: Recipe) -> None:
        self.channels = recipe.channels(lags)
        self._transforms = recipe.transforms
        self._span = recipe.span if recipe.transforms else 1
        # A set of one frame has its zero lag within the frame: its two halves are segments with the same counts.
        length = lags // max(frames, 2)
        self._outwards = (np.arange(length) / length).astype(np.float32)
        self._taper = taper(lags, recipe)
        self._block = max(1, BLOCK_BYTES // (8 * lags))
        self._lags = lags
        self._scratch = np.zeros((self._block, lags + PADDING), np.complex64)

    def add(
        self,
        lags: npt.NDArray[np.int32] | npt.NDArray[np.float64],
        counts: npt.NDArray[np.uint32] | npt.NDArray[np.float64],
        weights: npt.NDArray[np.float32],
        sums: SpectrumSums,
        fresh: bool = False,
    ) -> None:
        """Add the spectra (or normalised lags, without fft) of some sets to sums.

        Parameters
        ----------
        lags : array, (sets, lags, 2)
            In-phase and quadrature.
        counts : array, (sets, frames, 2)
            Valid counts at the centre and at the edge of each frame, none of them 0 where the weight is not.
        weights : float32 array, (sets,)
            What each set's spectrum is multiplied with; those with 0 are left out.
        sums : complex128 or complex64 array, (sets, channels)
            Added to.
        fresh : bool
            Whatever is in the sums does not count.
        """
        pairs = lags.reshape(len(lags), -1)
        numbers = sums.view(sums.real.dtype)
        for first in range(0, len(pairs), self._block):
            part = slice(first, first + self._block)
            block = self._scratch[: len(pairs[part])]
            out = block.view(np.float32)
            prepare(pairs[part], counts[part], weights[part], self._taper, self._outwards, self._transforms, out)
            if self._transforms:
                rows = block[:, : self._lags]
                done = scipy.fft.fft(rows, axis=-1, overwrite_x=True, workers=1)
                if done.ctypes.data != rows.ctypes.data:  # scipy may work in place, but does not promise to
                    rows[:] = done
            add_averaged(out, weights[part], self._span, fresh, numbers[part])


def taper(lags: int, recipe: Recipe) -> npt.NDArray[np.float32]:
    """The window over the lags, with the transform's ``1/L`` in it; 1 everywhere when nothing is transformed."""
    if not recipe.transforms:
        return np.ones(lags, np.float32)
    offset = np.arange(lags) - lags // 2
    shape = np.ones(lags)
    if recipe.window == "hanning":
        half = (recipe.width or lags) / 2
        shape = np.where(np.abs(offset) < half, (1 + np.cos(np.pi * offset / half)) / 2, 0.0)
    return (shape / lags).astype(np.float32)


@vector_loop
def prepare(
    lags: npt.NDArray[np.int32] | npt.NDArray[np.float64],
    counts: npt.NDArray[np.uint32] | npt.NDArray[np.float64],
    weights: npt.NDArray[np.float32],
    taper: npt.NDArray[np.float32],
    outwards: npt.NDArray[np.float32],
    swap: bool,
    out: npt.NDArray[np.float32],
) -> None:
    """Normalise and taper sets; with `swap` the zero lag comes first, as a transform wants it.

    Lags come and go as two numbers each. `outwards` says how far each lag of a segment is from its inner end, 0 to 1: the
    count is interpolated linearly between the ends of a frame. The innermost loop is plain, so that the compiler makes
    vectors of it.
    """
    count, frames = taper.size, counts.shape[1]
    segments = max(frames, 2)
    length = count // segments
    for item in range(lags.shape[0]):
        if weights[item] == 0:
            out[item] = 0
            continue
        for segment in range(segments):
            frame = segment * frames // segments
            inner, edge = np.float32(counts[item, frame, 0]), np.float32(counts[item, frame, 1])
            slope = edge - inner
            if segment < segments // 2:  # before the zero lag the inner end comes last
                inner, slope = edge, -slope
            start = segment * length
            to = (start + count // 2) % count if swap else start
            source, target = lags[item, 2 * start : 2 * (start + length)], out[item, 2 * to : 2 * (to + length)]
            shape = taper[start : start + length]
            for k in range(length):
                scale = shape[k] / (inner + slope * outwards[k])
                target[2 * k] = np.float32(source[2 * k]) * scale
                target[2 * k + 1] = np.float32(source[2 * k + 1]) * scale


@vector_loop
def add_averaged(
    spectra: npt.NDArray[np.float32],
    weights: npt.NDArray[np.float32],
    span: int,
    fresh: bool,
    sums: npt.NDArray[np.float64] | npt.NDArray[np.float32],
) -> None:
    """Average `span` neighbouring channels, weight, and add; only as many channels as the sums have."""
    for item in range(sums.shape[0]):
        weight = weights[item] / np.float32(span)
        source, target = spectra[item], sums[item]
        if fresh:
            target[:] = 0
        if weight == 0:
            continue
        if span == 1:
            for k in range(target.size):
                target[k] += weight * source[k]
            continue
        for channel in range(target.size // 2):
            real, imaginary = np.float32(0), np.float32(0)
            for k in range(channel * span, (channel + 1) * span):
                real += source[2 * k]
                imaginary += source[2 * k + 1]
            target[2 * channel] += weight * real
            target[2 * channel + 1] += weight * imaginary
