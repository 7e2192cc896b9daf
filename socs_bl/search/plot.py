"""Waterfall pictures of found lines. Needs matplotlib (the extra ``plots``), loaded at the first picture."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

from socs_bl.core.errors import Refused
from socs_bl.core.whole_file import write_whole
from socs_bl.search.bfr5 import INCOHERENT
from socs_bl.search.engine import Hit, SearchResult
from socs_bl.search.hits import Cutout


def write_waterfall(path: Path, result: SearchResult, cutout: Cutout, hit: Hit) -> None:
    """Draw a `waterfall` as PNG.

    Parameters
    ----------
    path : Path
        Picture to write, whole or not at all.
    result, cutout, hit
        As for `waterfall`.

    Raises
    ------
    Refused
        When matplotlib is not installed.
    OSError
        When the picture cannot be written.
    """
    picture = io.BytesIO()
    waterfall(result, cutout, hit).savefig(picture, format="png", dpi=100)
    write_whole(path, picture.getvalue())


def waterfall(result: SearchResult, cutout: Cutout, hit: Hit) -> Any:
    """The power around a found line, with the line beside it, as a matplotlib figure.

    Parameters
    ----------
    result : SearchResult
        The search.
    cutout : Cutout
        One of its `cutouts`.
    hit : Hit
        The hit that it shows.

    Raises
    ------
    Refused
        When matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise Refused("pictures need matplotlib; pip install 'socs_bl[plots]', or set plots: 0") from error
    band, line = result.band, cutout.line
    spectra, width = cutout.power.shape
    start_mhz = band.frequency_mhz(line.start(spectra))
    seconds = spectra * result.spectrum_s

    def hertz(place: float) -> float:
        return (band.frequency_mhz(place) - start_mhz) * 1e6

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot()
    floor, top = np.percentile(cutout.power, (5, 99.7))
    image = axes.imshow(
        cutout.power, aspect="auto", origin="lower", cmap="viridis", interpolation="nearest",
        vmin=floor, vmax=max(top, floor + 1e-6),
        extent=(hertz(cutout.first - 0.5), hertz(cutout.first + width - 0.5), 0.0, seconds),
    )  # fmt: skip
    beside = 6 * abs(band.fine_hz)
    for side in (-beside, beside):
        axes.plot([side, hertz(line.end(spectra)) + side], [0, seconds], color="white", lw=0.8, ls="--")
    axes.set_xlim(*sorted((hertz(cutout.first - 0.5), hertz(cutout.first + width - 0.5))))
    axes.set_xlabel(f"frequency - {start_mhz:.6f} MHz (Hz)")
    axes.set_ylabel("time from the first sample (s)")
    beam = "incoherent beam" if hit.beam == INCOHERENT.number else f"beam {hit.beam} ({hit.beam_name})"
    axes.set_title(
        f"{result.header.text('SRC_NAME', '')}  {result.header.text('INSTANCE', '')}  {beam}\n"
        f"drift {hit.drift_hz_s:+.3f} Hz/s, S/N {hit.snr:.0f}"
    )
    figure.colorbar(image, ax=axes, label="power above the noise level")
    FigureCanvasAgg(figure)
    return figure
