"""Binary files: writing against bare pwrite and fsync of the same bytes, reading against sdmpy.

27 antennas, 16 windows of 64 channels and four products: 11.9 MB an integration, with flags, actual times and durations.
Turns of ours and of the reference alternate, so that both meet the same disk; the best of each is compared. Reading is from
the page cache. What a piece at a time costs (a window, as separate pipelines write it) is reported without a goal.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from report import Figure, arguments, publish

from socs_bl.bdf.finish import finish
from socs_bl.bdf.layout import Header, Layout, SpectralWindow
from socs_bl.bdf.reader import BdfReader
from socs_bl.bdf.scan import Scan
from socs_bl.bdf.writer import BdfWriter, Piece

ANTENNAS, WINDOWS, CHANNELS = 27, 16, 64
SECOND = 10**9
EVERY_S = 1.0


def header(number: int) -> Header:
    """Real sizes."""
    uid = f"uid:///evla/bdf/{1_700_000_000_000 + number}"
    windows = tuple(
        SpectralWindow("AC_8BIT", one, CHANNELS, 1, ("RR", "RL", "LR", "LL"), ("RR", "RL", "LL"))
        for one in range(1, WINDOWS + 1)
    )
    return Header(uid, uid, "0/1/1/", 59000 * 86400 * SECOND, SECOND, ANTENNAS, windows)


def pieces(made: Header) -> list[Piece]:
    """One integration of noise."""
    generator = np.random.default_rng(1)
    found = []
    for number, one in enumerate(made.windows):
        arrays: dict[str, Any] = {}
        for kind, rows, labels, values in (
            ("cross", made.baselines, 4, 4),
            ("auto", made.antennas, 3, one.auto_values),
        ):
            shape, meta = (rows, 1, CHANNELS, values), (rows, 1, labels)
            data = generator.standard_normal((*shape, 2), np.float32)
            arrays[kind] = data.view(np.complex64)[..., 0] if kind == "cross" else np.ascontiguousarray(data[..., 0])
            arrays[f"{kind}_flags"] = np.zeros(meta, np.int32)
            arrays[f"{kind}_times"] = np.full(meta, made.start_ns)
            arrays[f"{kind}_durations"] = np.full(meta, SECOND)
        found.append(Piece(number, **arrays))
    return found


def write_ours(directory: Path, made: Header, parts: list[list[Piece]], count: int) -> Path:
    """A file, each integration in so many parts."""
    scan = Scan(uid=made.uid, dataset_id="bench", start_ns=1)
    with BdfWriter.open(directory, made, scan) as writer:
        for index in range(count):
            for part in parts:
                writer.write(index, part)
    return writer.path


def write_bare(path: Path, block: bytes, count: int) -> Path:
    """The same bytes with nothing around: pwrite, synced as often as ours, and at the end."""
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR)
    synced = time.monotonic()
    for index in range(count):
        os.pwrite(descriptor, block, index * len(block))
        if time.monotonic() - synced >= EVERY_S:
            os.fdatasync(descriptor)
            synced = time.monotonic()
    os.fsync(descriptor)
    os.close(descriptor)
    return path


def seconds(work: Callable[[], Path]) -> float:
    """Wall time of making a file, which is removed."""
    began = time.perf_counter()
    path = work()
    taken = time.perf_counter() - began
    for one in path.parent.glob("*"):
        one.unlink()
    return taken


def writing(directory: Path, count: int, turns: int) -> list[Figure]:
    """Whole integrations and single windows against bare writes."""
    made = header(0)
    integration = pieces(made)
    layout = Layout(made)
    block = os.urandom(1 << 20) * (layout.block_bytes // (1 << 20) + 1)
    block = block[: layout.block_bytes]
    taken: dict[str, list[float]] = {"whole": [], "windows": [], "bare": []}
    for turn in range(turns):
        works: list[tuple[str, Callable[[], Path]]] = [
            ("whole", partial(write_ours, directory, header(turn), [integration], count)),
            ("bare", partial(write_bare, directory / "bare", block, count)),
        ]
        for name, work in works if turn % 2 else reversed(works):
            taken[name].append(seconds(work))
    for turn in range(turns, turns + 2):
        taken["windows"].append(
            seconds(partial(write_ours, directory, header(turn), [[one] for one in integration], count))
        )
    rates = {name: count * layout.block_bytes * 1e-6 / min(times) for name, times in taken.items()}
    figures = []
    for name, text, goal in (
        ("whole", "whole integrations", ">= 0.9 of bare pwrite + fsync"),
        ("windows", "a window at a time", ""),
    ):
        ratio = rates[name] / rates["bare"]
        figures.append(
            Figure(f"written, {text}", rates[name], rates["bare"], ratio, goal, "MB/s", ratio >= 0.9 if goal else None)
        )
    return figures


def reading(directory: Path, count: int, turns: int) -> list[Figure]:
    """Opening with all integrations as arrays, one window of all, and every number added up."""
    import sdmpy.bdf

    made = header(0)
    part = write_ours(directory, made, [pieces(made)], count)
    finish(part)
    path = part.rename(part.with_suffix(""))  # as it is published

    def our_arrays() -> float:
        with BdfReader(path) as reader:
            for integration in reader:
                _ = integration.cross, integration.auto
        return float(count)

    def their_arrays() -> float:
        read = sdmpy.bdf.BDF(str(path))
        for index in range(read.numIntegration):
            integration = read[index]
            for window in range(WINDOWS):
                _ = integration.get_data(window, "cross"), integration.get_data(window, "auto")
        read.fp.close()
        return float(count)

    def our_window() -> float:
        with BdfReader(path) as reader:
            return float(abs(np.array([one.cross[3] for one in reader if one.cross]).mean()))

    def their_window() -> float:
        read = sdmpy.bdf.BDF(str(path))
        found = float(abs(read.get_data(3, "cross").mean()))
        read.fp.close()
        return found

    def our_sum() -> float:
        with BdfReader(path) as reader:
            return float(sum(one.raw("crossData").sum(dtype=np.float64) for one in reader))

    def their_sum() -> float:
        read = sdmpy.bdf.BDF(str(path))
        found = sum(
            read[index].data["crossData"].view(np.float32).sum(dtype=np.float64) for index in range(len(read.mime_ints))
        )
        read.fp.close()
        return float(found)

    figures = []
    for text, ours, theirs, goal in (
        ("all integrations as arrays", our_arrays, their_arrays, ">= 5 x sdmpy"),
        ("one window of all integrations", our_window, their_window, ">= 5 x sdmpy"),
        ("every number added up", our_sum, their_sum, ""),
    ):
        assert np.isclose(ours(), theirs())
        times = [(once(ours), once(theirs)) for _ in range(turns)]
        our_time, their_time = (min(column) for column in zip(*times, strict=True))
        size = path.stat().st_size * 1e-6
        ratio = their_time / our_time
        figures.append(
            Figure(
                f"read, {text}", size / our_time, size / their_time, ratio, goal, "MB/s", ratio >= 5 if goal else None
            )
        )
    return figures


def once(work: Callable[[], float]) -> float:
    """Wall seconds of one call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def main() -> None:
    """Run the benchmark."""
    options = arguments(__doc__.splitlines()[0] if __doc__ else "")
    count, turns = (20, 3) if options.quick else (60, 7)
    with tempfile.TemporaryDirectory(prefix="socs_bl-bench-") as name:
        # A published file would refuse its name to the next turn: the parent is not the publication directory of anything.
        directory = Path(name) / "private"
        directory.mkdir()
        figures = writing(directory, count, turns) + reading(directory, count, turns)
    publish(figures, options.json)


if __name__ == "__main__":
    main()
