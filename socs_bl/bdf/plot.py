"""Pictures of a file: amplitude and phase by channel and by time. Needs matplotlib (the extra ``plots``)."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from socs_bl.bdf.reader import BdfReader
from socs_bl.core.errors import Refused
from socs_bl.core.whole_file import write_whole


def plot(
    path: Path,
    picture: Path,
    window: int = 0,
    antennas: tuple[int, int] = (0, 1),
    product: str = "",
    phase_bin: int = 0,
) -> None:
    """Draw a baseline's, or an antenna's, spectrum and its course as PNG.

    Parameters
    ----------
    path : Path
        Also a file that is still written.
    picture : Path
        Appears whole or not at all.
    window : int
        Position in the header.
    antennas : (int, int)
        From 0; the same twice: its auto-correlation.
    product : str
        Such as ``RL``; empty: the window's first.
    phase_bin : int

    Raises
    ------
    Refused
        When the file does not have it, nothing of it is good, or matplotlib is not installed.
    Faulty
        When the file is damaged.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise Refused("pictures need matplotlib; pip install 'socs_bl[plots]'") from error
    seconds, spectra, title = course(path, window, antennas, product, phase_bin)
    figure = Figure(figsize=(10, 6), layout="constrained")
    channels, times = _mean(spectra, 0), _mean(spectra, 1)
    across = ((np.arange(spectra.shape[1]), channels, "channel"), (seconds, times, "time from the start (s)"))
    for column, (place, values, label) in enumerate(across):
        amplitude, phase = figure.add_subplot(2, 2, column + 1), figure.add_subplot(2, 2, column + 3)
        amplitude.plot(place, np.abs(values), ".-", lw=0.8, ms=3)
        phase.plot(place, np.degrees(np.angle(values)), ".", ms=4)
        phase.set_ylim(-180, 180)
        phase.set_yticks(range(-180, 181, 60))
        phase.set_xlabel(label)
        for axes, what in ((amplitude, "amplitude"), (phase, "phase (degrees)")):
            axes.set_ylabel(what if column == 0 else "")
            axes.grid(alpha=0.3)
        amplitude.set_title("mean over time" if column == 0 else "mean over channels", fontsize=9)
    figure.suptitle(f"{path.name}\n{title}", fontsize=10)
    FigureCanvasAgg(figure)
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=100)
    try:
        write_whole(picture, drawn.getvalue())
    except OSError as error:
        raise Refused(f"{picture}: cannot be written: {error.strerror}") from error


def _mean(values: npt.NDArray[np.complex128], axis: int) -> npt.NDArray[np.complex128]:
    """Mean of what is a number; NaN where nothing is."""
    good = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        mean: npt.NDArray[np.complex128] = np.where(good, values, 0).sum(axis) / good.sum(axis)
    return mean


def course(
    path: Path, window: int, antennas: tuple[int, int], product: str, phase_bin: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.complex128], str]:
    """Seconds from the start, spectra (integrations, channels; NaN where flagged), and what they are.

    Raises
    ------
    Refused
        When the file does not have it, or nothing of it is good.
    """
    with BdfReader(path, partial=True) as reader:
        header = reader.header
        if not 0 <= window < len(header.windows):
            raise Refused(f"{path}: window {window}; it has {len(header.windows)}, counted from 0")
        one = header.windows[window]
        auto = antennas[0] == antennas[1]
        products = one.auto if auto else one.cross
        if not products or (product and product not in products):
            raise Refused(f"{path}: no {'auto' if auto else 'cross'} product {product or 'at all'}; it has {products}")
        if not all(0 <= antenna < header.antennas for antenna in antennas) or not 0 <= phase_bin < one.bins:
            raise Refused(
                f"{path}: antennas {antennas}, bin {phase_bin}; it has {header.antennas} and {one.bins}, from 0"
            )
        label = products.index(product) if product else 0
        low, high = sorted(antennas)
        row = low if auto else high * (high - 1) // 2 + low
        found: list[Any] = []
        times = []
        for integration in reader:
            data = integration.auto if auto else integration.cross
            flags = integration.auto_flags if auto else integration.cross_flags
            if data is None:
                continue
            values = (
                _auto_values(data[window][row, phase_bin], products, label)
                if auto
                else data[window][row, phase_bin, :, label]
            )
            bad = flags is not None and bool(flags[window][row, phase_bin, label])
            found.append(np.full(one.channels, np.nan) if bad else values.astype(np.complex128))
            times.append((integration.time_ns - header.start_ns) * 1e-9)
    spectra = np.array(found, np.complex128).reshape(len(found), one.channels)
    if not np.isfinite(spectra).any():
        raise Refused(f"{path}: nothing of this is there or good; 'socs-bl bdf info' shows what is flagged")
    name = f"antenna {low}" if auto else f"antennas {low} and {high}"
    text = f"{one.baseband} {one.number}, {name}, {products[label]}" + (f", bin {phase_bin}" if one.bins > 1 else "")
    return np.array(times), spectra, text


def _auto_values(values: npt.NDArray[Any], products: tuple[str, ...], label: int) -> npt.NDArray[Any]:
    """One product of an auto spectrum, (channels, values): of three the mixed one, in the middle, is complex."""
    if len(products) < 3:
        return values[:, label]
    return values[:, 1] + 1j * values[:, 2] if label == 1 else values[:, (0, 1, 3)[label]]
