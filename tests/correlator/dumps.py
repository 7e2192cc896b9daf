"""Slots of a ring made by hand: what the ingest process would have put there."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from socs_bl.correlator.configuration import (
    Antenna,
    Assignment,
    Configuration,
    Mapping,
    Pipe,
    Product,
    Stream,
    Subarray,
    Window,
)
from socs_bl.correlator.pipeline import make_recipe, parse_pipeline
from socs_bl.correlator.plan import GOOD, Plan

SECOND = 10**9
START = 1_700_000_000 * SECOND
CROSS, AUTO = ("RR", "RL", "LR", "LL"), ("RR", "RL", "LL")


def observation(
    text: str, stations: int = 3, sideband: str = "U", dump_ns: int = SECOND // 10, **shape: Any
) -> Configuration:
    """One subarray and one window of all baselines and autos, with all polarisations; `shape` of every product."""
    hands = {"R": 0, "L": 1}
    streams = {
        (station, hand): Stream(f"s{station}{hand}", station, band, 3)
        for station in range(1, stations + 1)
        for hand, band in hands.items()
    }
    products, assignments = [], []
    for y in range(1, stations + 1):
        for x in range(1, y + 1):
            for label in AUTO if x == y else CROSS:
                name = f"p{x}_{y}_{label}"
                products.append(Product(name, streams[x, label[0]], streams[y, label[1]], **shape))
                assignments.append(Assignment(name, label))
    recipe = make_recipe(parse_pipeline(text))
    channels, bins = recipe.channels(products[0].lags), products[0].bins
    window = Window("w1", "AC_8BIT", 1, channels, 64e6, sideband, CROSS, AUTO, bins, 1.5e9)
    antennas = tuple(Antenna(station, f"ea{station:02}") for station in range(1, stations + 1))
    return Configuration(
        "c1",
        dump_ns,
        tuple(streams.values()),
        tuple(products),
        (Subarray("sa0", "cfg", antennas, (window,)),),
        (Pipe("P0", text),),
        (Mapping("w1", "P0", tuple(assignments)),),
    )


def empty_slot(plan: Plan) -> npt.NDArray[np.uint8]:
    """A dump in which no frame has come."""
    return np.zeros(plan.slot_bytes, np.uint8)


def noise_slot(plan: Plan, seed: int, count: int = 1000) -> npt.NDArray[np.uint8]:
    """A dump with every frame, of random lags."""
    random, slot = np.random.default_rng(seed), empty_slot(plan)
    for group in plan.groups:
        group.state(slot)[:] = GOOD
        group.counts(slot)[:] = count
        pairs = group.lag_pairs(slot)
        pairs[:] = random.integers(-(10**6), 10**6, pairs.shape)
    return slot
