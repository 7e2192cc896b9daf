"""The lag pipelines' arithmetic once more, in double precision and plain loops, straight from the equations.

One lag set at a time; nothing is shared with the product but the meaning of its parameters.
"""

from __future__ import annotations

import cmath
import math
from collections.abc import Sequence
from dataclasses import dataclass

MISSING, GOOD = 0, 1


@dataclass(frozen=True)
class SetOfDump:
    """One product and phase bin of one dump: pairs of each lag, (centre, edge) counts and state of each frame."""

    lags: Sequence[Sequence[int]]
    counts: Sequence[Sequence[int]]
    state: Sequence[int]

    def good(self, keep_suspect: bool = False) -> bool:
        """Every frame is there, well, and has valid samples at both ends."""
        states = all(state == GOOD or (keep_suspect and state != MISSING) for state in self.state)
        return states and all(count > 0 for pair in self.counts for count in pair)


@dataclass(frozen=True)
class Steps:
    """What is done: order, window and its width in lags (0: all), channels averaged, lower sideband."""

    order: str = "integrateFirst"
    window: bool = False
    width: int = 0
    span: int = 1
    keep_suspect: bool = False


def valid_count(k: int, lags: int, counts: Sequence[Sequence[float]]) -> float:
    """Count of lag k: linear from the centre end to the edge of its frame."""
    frames, zero = len(counts), lags // 2
    length = lags // frames
    frame = k // length
    centre, edge = counts[frame]
    if frames == 1:
        return centre + (edge - centre) * abs(k - zero) / zero
    start = frame * length
    near = start if start >= zero else start + length
    return centre + (edge - centre) * abs(k - near) / length


def normalise(lags: Sequence[complex], counts: Sequence[Sequence[float]]) -> list[complex]:
    """r_k = A_k / DV(k)."""
    return [value / valid_count(k, len(lags), counts) for k, value in enumerate(lags)]


def window(k: int, lags: int, width: int) -> float:
    """The Hann window over `width` lags around the zero lag."""
    half = (width or lags) / 2
    return (1 + math.cos(math.pi * (k - lags / 2) / half)) / 2 if abs(k - lags / 2) < half else 0.0


def transform(values: Sequence[complex], steps: Steps) -> list[complex]:
    """S_m = (1/L) sum_k w_k r_k exp(-2 pi i m (k-c)/L), m = 0 .. L/2-1, then averaged over channels."""
    lags = len(values)
    tapered = [value * (window(k, lags, steps.width) if steps.window else 1.0) for k, value in enumerate(values)]
    turns = [cmath.exp(-2j * cmath.pi * step / lags) for step in range(lags)]
    spectrum = [
        sum(value * turns[m * (k - lags // 2) % lags] for k, value in enumerate(tapered)) / lags
        for m in range(lags // 2)
    ]
    return [sum(spectrum[j : j + steps.span]) / steps.span for j in range(0, lags // 2, steps.span)]


def integrate(dumps: Sequence[SetOfDump], steps: Steps) -> tuple[list[complex], int]:
    """Spectrum (or lags) of the good dumps, and how many they were; nothing good: an empty list."""
    good = [dump for dump in dumps if dump.good(steps.keep_suspect)]
    if not good:
        return [], 0
    if steps.order == "transformFirst":
        weights = [sum(map(sum, dump.counts)) / (2 * len(dump.counts)) for dump in good]
        spectra = [transform(normalise([complex(*pair) for pair in dump.lags], dump.counts), steps) for dump in good]
        total = sum(weights)
        mean = [
            sum(weight * value for weight, value in zip(weights, column, strict=True)) / total
            for column in zip(*spectra, strict=True)
        ]
        return mean, len(good)
    lags = [
        complex(sum(p[0] for p in pairs), sum(p[1] for p in pairs))
        for pairs in zip(*(d.lags for d in good), strict=True)
    ]
    frames = len(good[0].counts)
    counts = [[sum(dump.counts[frame][end] for dump in good) for end in (0, 1)] for frame in range(frames)]
    values = normalise(lags, counts)
    return (values if steps.order == "noTransform" else transform(values, steps)), len(good)
