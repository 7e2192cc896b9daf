"""Where each lag of a dump lies in a slot of a ring: the one thing that ingest and lag pipelines must agree on.

Products of the same shape lie together, so that a pipeline sees whole arrays without copying. A slot holds one dump of
all products of a pipeline: three areas, one after the other, each of them group after group.

=========  ==============================  ==============================================================
area       shape in each group             content
=========  ==============================  ==============================================================
state      products, bins, frames          uint8: MISSING, GOOD or SUSPECT
counts     products, bins, frames, 2       uint32: valid counts at the centre and at the edge of the frame
lags       products, bins, lags, 2         int32, native order: in-phase, quadrature
=========  ==============================  ==============================================================

A frame that is missing has zero lags and counts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from socs_bl.correlator.configuration import Product

MISSING, GOOD, SUSPECT = 0, 1, 2
ALIGNMENT = 64  # bytes: a line of the cache


@dataclass(frozen=True, slots=True)
class Group:
    """Products of one shape.

    Attributes
    ----------
    products : tuple of Product
        In the order of the arrays.
    first : int
        Number of the first product within the plan.
    frames : int
        Frames of a lag set.
    lags_per_frame, bins : int
    state_at, counts_at, lags_at : int
        Bytes from the start of the slot.
    """

    products: tuple[Product, ...]
    first: int
    frames: int
    lags_per_frame: int
    bins: int
    state_at: int
    counts_at: int
    lags_at: int

    @property
    def lags(self) -> int:
        """Lags of a set."""
        return self.frames * self.lags_per_frame

    def state(self, slot: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """View of the state, (products, bins, frames)."""
        shape = (len(self.products), self.bins, self.frames)
        return np.ndarray(shape, np.uint8, slot.data, self.state_at)

    def counts(self, slot: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint32]:
        """View of the valid counts, (products, bins, frames, 2)."""
        shape = (len(self.products), self.bins, self.frames, 2)
        return np.ndarray(shape, np.uint32, slot.data, self.counts_at)

    def lag_pairs(self, slot: npt.NDArray[np.uint8]) -> npt.NDArray[np.int32]:
        """View of the lags, (products, bins, lags, 2)."""
        shape = (len(self.products), self.bins, self.lags, 2)
        return np.ndarray(shape, np.int32, slot.data, self.lags_at)


@dataclass(frozen=True, slots=True)
class Plan:
    """The layout of a slot.

    Attributes
    ----------
    groups : tuple of Group
    slot_bytes : int
    """

    groups: tuple[Group, ...]
    slot_bytes: int

    @property
    def products(self) -> tuple[Product, ...]:
        """All products in the order of the slot; the position here is a product's local number."""
        return tuple(product for group in self.groups for product in group.products)

    @property
    def frames(self) -> int:
        """Frames of one whole dump."""
        return sum(len(group.products) * group.bins * group.frames for group in self.groups)


def make_plan(products: Iterable[Product]) -> Plan:
    """The layout for these products: groups by shape in order of first appearance, products in the order given."""
    shapes: dict[tuple[int, int, int], list[Product]] = {}
    for product in products:
        shapes.setdefault((product.frames_per_set, product.lags_per_frame, product.bins), []).append(product)
    cells = [(len(members) * bins * frames, lags) for (frames, lags, bins), members in shapes.items()]
    state_end = sum(_aligned(count) for count, _ in cells)
    counts_end = state_end + sum(_aligned(8 * count) for count, _ in cells)
    groups = []
    first, state_at, counts_at, lags_at = 0, 0, state_end, counts_end
    for ((frames, lags, bins), members), (count, _) in zip(shapes.items(), cells, strict=True):
        groups.append(Group(tuple(members), first, frames, lags, bins, state_at, counts_at, lags_at))
        first += len(members)
        state_at += _aligned(count)
        counts_at += _aligned(8 * count)
        lags_at += _aligned(8 * count * lags)
    return Plan(tuple(groups), lags_at)


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
