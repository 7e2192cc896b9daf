"""Rows of `correlator`: lag sets to integrated spectra, beside a bare transform of the same lag sets in the same run.

The bare transform is `scipy.fft.fft` of complex64 in one thread, on lags that are converted already: all of a dump in one
call, or in blocks of the size that ours works on, whichever is faster. Ours takes the dump as it lies in a ring: weighs
every set, converts, normalises, tapers, transforms, adds up. Several dumps take turns, so that they come from memory and
not from a cache.
"""

from __future__ import annotations

import itertools
import multiprocessing
import time
from collections import deque
from collections.abc import Callable
from multiprocessing.synchronize import Barrier

import numpy as np
import numpy.typing as npt
import scipy.fft
from report import Figure

from socs_bl.correlator import wire
from socs_bl.correlator.configuration import Product, Stream
from socs_bl.correlator.integration import Spectra
from socs_bl.correlator.pipeline import parse_pipeline
from socs_bl.correlator.plan import GOOD, Plan, make_plan
from socs_bl.correlator.spectrum import BLOCK_BYTES
from socs_bl.correlator.stage import Stage

TYPICAL_FRAMES = 24192  # of a dump: 27 antennas, 4 products, 16 windows
DUMPS = 10  # of an integration
DISTINCT = 4  # dumps that take turns
DUMP_NS = 100_000_000
CORES = 2
AGGREGATE = 1.6  # GB/s: what a whole correlator of its class sends
ORDERS = {
    "transformFirst": f"flag ! dvnorm ! window hanning ! fft ! integrate n={DUMPS} ! accnorm ! null",
    "integrateFirst": f"flag ! integrate n={DUMPS} ! dvnorm ! window hanning ! fft ! null",
    "every dump an integration": "flag ! dvnorm ! window hanning ! fft ! null",
}
Slots = list[npt.NDArray[np.uint8]]


def rows(quick: bool) -> list[Figure]:
    """The figures of the lag pipelines."""
    rounds = 3 if quick else 10
    found = []
    for blocks, cells in ((1, 1), (1, 16), (16, 16)):
        plan, slots = made_up(TYPICAL_FRAMES // (4 if quick else 1), blocks, cells)
        shape = f"sets of {plan.groups[0].lags} lags ({plan.groups[0].frames} frames)"
        for order, text in ORDERS.items() if plan.groups[0].frames == 1 else [*ORDERS.items()][:1]:
            found.append(one_core(f"lags to integrated spectra, {order}, {shape}", text, plan, slots, rounds))
    for order in ("transformFirst", "integrateFirst"):
        found.append(two_cores(order, quick))
    return found


def made_up(frames: int, recirculation: int, chain: int) -> tuple[Plan, Slots]:
    """A plan with so many frames of 128 lags, and dumps of noise."""
    x, y = Stream("x", 1, 0, 0), Stream("y", 2, 0, 0)
    lags = 128 * recirculation * chain
    count = max(1, frames // (recirculation * chain))
    plan = make_plan([Product(str(number), x, y, lags, chain, recirculation) for number in range(count)])
    slots, group, random = [], plan.groups[0], np.random.default_rng(1)
    for _ in range(DISTINCT):
        slot = np.zeros(plan.slot_bytes, np.uint8)
        group.state(slot)[:] = GOOD
        group.counts(slot)[:] = 10**6, 10**6 - 1000
        group.lag_pairs(slot)[:] = random.integers(-(10**6), 10**6, group.lag_pairs(slot).shape, np.int32)
        slots.append(slot)
    return plan, slots


def integrate(text: str, plan: Plan, slots: Slots) -> Callable[[], None]:
    """What takes one whole integration through a stage, results included."""
    results: deque[list[Spectra]] = deque(maxlen=1)
    stage = Stage(parse_pipeline(text), plan, DUMP_NS, lambda done: results.append(stage.spectra()))
    counter = itertools.count()

    def whole() -> None:
        for _ in range(DUMPS):
            number = next(counter)
            stage.take(DUMPS * DUMP_NS * 10**6 + number * DUMP_NS, slots[number % len(slots)])

    return whole


def bare(plan: Plan, slots: Slots) -> list[Callable[[], None]]:
    """Bare transforms of the same dumps: whole, and in blocks."""
    group = plan.groups[0]
    dumps = [group.lag_pairs(slot).astype(np.float32).view(np.complex64).reshape(-1, group.lags) for slot in slots]
    block = max(1, BLOCK_BYTES // (8 * group.lags))

    def whole() -> None:
        for number in range(DUMPS):
            scipy.fft.fft(dumps[number % len(dumps)], axis=-1, workers=1)

    def in_blocks() -> None:
        for number in range(DUMPS):
            dump = dumps[number % len(dumps)]
            for first in range(0, len(dump), block):
                scipy.fft.fft(dump[first : first + block], axis=-1, workers=1)

    return [whole, in_blocks]


def seconds(work: Callable[[], None]) -> float:
    """CPU time of this process for it."""
    start = time.process_time()
    work()
    return time.process_time() - start


def one_core(figure: str, text: str, plan: Plan, slots: Slots, rounds: int) -> Figure:
    """Lag sets a second against the bare transform; both take turns, the best of each counts."""
    ours, references = integrate(text, plan, slots), bare(plan, slots)
    ours()
    times = [(seconds(ours), min(seconds(reference) for reference in references)) for _ in range(rounds)]
    sets = len(plan.products) * DUMPS / 1e6
    mine, theirs = (sets / min(column) for column in zip(*times, strict=True))
    return Figure(figure, mine, theirs, mine / theirs, ">= 0.7 of a bare scipy.fft", "M sets/s", mine / theirs >= 0.7)


def _worker(order: str, frames: int, repeats: int, barrier: Barrier, times: multiprocessing.Queue[float]) -> None:
    """One core's share; all begin together."""
    plan, slots = made_up(frames, 1, 1)
    work = integrate(ORDERS[order], plan, slots)
    work()
    barrier.wait()
    start = time.monotonic()
    for _ in range(repeats):
        work()
    times.put(time.monotonic() - start)


def two_cores(order: str, quick: bool) -> Figure:
    """Bytes of lag frames a second, by the clock, in as many processes as the aim allows cores."""
    context = multiprocessing.get_context("spawn")
    frames, repeats = TYPICAL_FRAMES // CORES, 4 if quick else 20
    barrier, times = context.Barrier(CORES), context.Queue()
    workers = [context.Process(target=_worker, args=(order, frames, repeats, barrier, times)) for _ in range(CORES)]
    for worker in workers:
        worker.start()
    slowest = max(times.get(timeout=300) for _ in workers)
    for worker in workers:
        worker.join()
    rate = CORES * frames * repeats * DUMPS * wire.frame_bytes(128) / slowest / 1e9
    figure = f"lag frames to integrated spectra, {order}, {CORES} processes"
    return Figure(figure, rate, AGGREGATE, rate / AGGREGATE, ">= 1.6 GB/s", "GB/s", rate >= AGGREGATE)
