"""What a search leaves behind.

``<stem>.search.json`` holds everything in full precision, with the settings that were used. For other people's tools there
are the hit list ``<stem>.dat`` (turbo_seti), ``<stem>.hits`` and ``<stem>.stamps`` (seticore) and, when asked for,
``<stem>.beamNN.h5`` and ``<stem>.incoherent.h5`` (FBH5); for people, a picture of each of the strongest hits,
``<stem>.hit<NN>.png``.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from socs_bl.capture.guppi import find_recordings
from socs_bl.core.whole_file import write_whole
from socs_bl.search.config import SearchConfig
from socs_bl.search.dat import write_dat
from socs_bl.search.engine import SEARCHED, Progress, SearchResult
from socs_bl.search.fbh5 import beam_file
from socs_bl.search.plot import write_waterfall
from socs_bl.search.seticore_files import write_hits, write_stamps
from socs_bl.search.stamp import Stamp, read_stamps
from socs_bl.search.voltages import start_unix


@dataclass(frozen=True)
class Products:
    """Files of one search.

    Attributes
    ----------
    summary : dict
        The contents of the JSON file without the hits, plus ``hit_count``, ``stamp_count``, and ``paths`` of the GUPPI RAW
        files.
    paths : tuple[Path, ...]
        What was written: the hit list first.
    """

    summary: dict[str, Any]
    paths: tuple[Path, ...]


def recordings_under(directory: Path) -> dict[str, list[Path]]:
    """All recordings in `directory` and below: stem to files in sequence order. Empty when there is nothing."""
    found: dict[str, list[Path]] = {}
    for folder in sorted({path.parent for path in directory.rglob("*.raw")}):
        found.update(find_recordings(folder))
    return found


def summary_of(stem: str, paths: list[Path], result: SearchResult, config: SearchConfig) -> dict[str, Any]:
    """What was searched and how, as JSON values. Times are Unix UTC seconds, frequencies Hz."""
    band, header = result.band, result.header
    edges = sorted(band.frequency_mhz(place) * 1e6 for place in (0, band.channels * band.fine))
    return {
        "stem": stem,
        "reason": result.reason,
        "obsid": header.text("OBSID", ""),
        "instance": header.text("INSTANCE", ""),
        "source": header.text("SRC_NAME", ""),
        "start": start_unix(header),
        "duration_s": result.duration_s,
        "low_hz": edges[0],
        "high_hz": edges[1],
        "fine_channel_hz": abs(band.fine_hz),
        "spectrum_s": result.spectrum_s,
        "spectra": result.spectra,
        "drift_step_hz_s": result.drift_step_hz_s,
        "missing": result.missing,
        "given_up": list(result.given_up),
        "damage": result.damage,
        "threshold": result.threshold,
        "false_hits": result.false_hits,
        "beams": [beam.name for beam in result.beams if beam.number >= 0],
        "recipe": result.recipe,
        "note": result.note,
        "files": [path.name for path in paths],
        "config": config.model_dump(mode="json"),
    }


def write_products(
    output: Path, stem: str, paths: list[Path], result: SearchResult, config: SearchConfig, progress: Progress
) -> Products:
    """Write the products of one search under `output`, each whole or not at all; the JSON last.

    Raises
    ------
    OSError
        When one cannot be written.
    Refused
        When pictures are wanted and matplotlib is not there.
    """
    output.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    stamps: list[Stamp] = []
    total = 4 + len(result.cutouts) if result.reason == SEARCHED else 1
    if result.reason == SEARCHED:
        prefix = output / stem
        written.append(output / f"{stem}.dat")
        write_dat(written[-1], result, config.max_drift_hz_s, paths[0].name)
        progress("write", 1, total)
        written.append(output / f"{stem}.hits")
        write_hits(written[-1], result, config.telescope_id)
        written.append(output / f"{stem}.stamps")
        stamps = read_stamps(paths, result, config.stamps)
        write_stamps(written[-1], result, stamps, config.telescope_id)
        for number, cutout in enumerate(result.cutouts, 1):
            progress("write", len(written), total)
            written.append(output / f"{stem}.hit{number:02d}.png")
            write_waterfall(written[-1], result, cutout, result.hits[number - 1])
        # Written by the search itself, since they are as large as the recording.
        written += [path for path in (beam_file(prefix, beam) for beam in result.beams) if path.is_file()]
    summary = summary_of(stem, paths, result, config)
    hits = [asdict(hit) for hit in result.hits]
    written.append(output / f"{stem}.search.json")
    write_whole(written[-1], json.dumps({**summary, "hits": hits}, indent=1).encode())
    progress("write", total, total)
    found = {"hit_count": len(hits), "stamp_count": len(stamps), "paths": [str(path) for path in paths]}
    return Products({**summary, **found}, tuple(written))
