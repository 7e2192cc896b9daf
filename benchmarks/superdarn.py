"""Conversion of a two-hour block by the stages of SuperDARN, beside pydarnio called directly on the same file in the same run.

The block is one of the simulated radar: `rawacf`, an averaging period every 3.5 s, 75 range gates. pydarnio called directly
writes what it writes and looks at nothing; a stage looks at every record first, reads back what was made, compares the two,
and syncs it to the disk under its final name. Both sides take turns; each figure is the best of its rounds. The processor time of
the process stands beside, for a machine that has other work.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pydarnio
from report import Figure, arguments, publish

from socs_bl.core.stage import StageResult, Verdict
from socs_bl.simulators.radar import RadarWriter, play
from socs_bl.simulators.radar_config import Radar, SliceConfig
from socs_bl.superdarn.convert import ArrayParameters, DmapOutput, SiteToArray, ToDmap
from socs_bl.superdarn.sample import h5py_works, pydarnio_works

BLOCK = 2057  # records of two hours, 3.5 s each
QUICK_BLOCK = 200
GOAL = 1.1
START = "2024-03-05T14:00:00Z"


def block(folder: Path, records: int) -> Path:
    """A site file of the simulated radar."""
    part = SliceConfig(ranges=75)
    radar = Radar(
        directory=folder, start=START, factor=0, records=records, period_s=3.5, sequences=29, generation="v0.7",
        kinds=("rawacf",), slices=(part,),
    )  # fmt: skip
    play(RadarWriter(radar), threading.Event())
    (path,) = folder.glob("*/*")
    return path


def measure(figure: str, ours: Callable[[], StageResult], theirs: Callable[[], object], rounds: int) -> list[Figure]:
    """Two rows, time and processor time: the best of `rounds` of each, in turns."""
    best = {name: [float("inf"), float("inf")] for name in ("ours", "theirs")}
    for _ in range(rounds):
        for name, work in (("theirs", theirs), ("ours", ours)):
            began, used = time.perf_counter(), time.process_time()
            result = work()
            spent = time.perf_counter() - began, time.process_time() - used
            best[name] = [min(pair) for pair in zip(best[name], spent, strict=True)]
            if isinstance(result, StageResult) and result.verdict is not Verdict.OK:
                raise SystemExit(f"{figure}: {result.verdict}: {result.reason}")
    (wall, processor), (their_wall, their_processor) = best["ours"], best["theirs"]
    ratio = wall / their_wall
    return [
        Figure(figure, wall, their_wall, ratio, f"<= {GOAL} x", "s", ratio <= GOAL),
        Figure(f"{figure}: processor", processor, their_processor, processor / their_processor, "", "s", None),
    ]


def rows(folder: Path, quick: bool) -> list[Figure]:
    """The figures of every conversion that a block goes through."""
    records, rounds = (QUICK_BLOCK, 3) if quick else (BLOCK, 2)
    site = block(folder, records)
    out, other = folder / "ours", folder / "theirs"
    out.mkdir()
    other.mkdir()

    def restructure() -> None:
        path = other / "array.hdf5"
        path.unlink(missing_ok=True)
        pydarnio.BorealisRestructure(str(site), str(path), "rawacf", "array", hdf5_compression="gzip")

    def convert(source: Path, structure: str) -> Callable[[], None]:
        def whole() -> None:
            path = other / "block.rawacf.bz2"
            path.unlink(missing_ok=True)  # pydarnio appends
            pydarnio.BorealisConvert(str(source), "rawacf", str(path), 0, borealis_file_structure=structure)

        return whole

    # Their self-tests, once in a process, are not of this file.
    assert not pydarnio_works() and not h5py_works()
    size = f"{records} records, {site.stat().st_size / 1e6:.0f} MB"
    found = measure(
        f"site to array, {size}", lambda: SiteToArray.work(site, out, ArrayParameters()), restructure, rounds
    )
    array = out / site.name.removesuffix(".site")
    for source, structure in ((site, "site"), (array, "array")):
        theirs = convert(source, structure)
        text = f"{structure} to DMAP, packed with bzip2, {size}"
        found += measure(text, lambda: ToDmap.work(source, out, DmapOutput()), theirs, rounds)  # noqa: B023  at once
    return found


def main() -> None:
    """Measure and publish."""
    options = arguments(__doc__ or "")
    with tempfile.TemporaryDirectory() as folder:
        publish(rows(Path(folder), options.quick), options.json)


if __name__ == "__main__":
    main()
