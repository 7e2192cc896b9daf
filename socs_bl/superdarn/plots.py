"""Pictures of what each antenna receives, in both styles of the site's operators, and their small copies."""

from __future__ import annotations

import datetime
import gc
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import h5py
import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from socs_bl.core.errors import Refused
from socs_bl.core.stage import StageResult, Verdict
from socs_bl.superdarn import names
from socs_bl.superdarn.checks import name_metadata
from socs_bl.superdarn.names import BlockName, PlotName
from socs_bl.superdarn.sample import h5py_works
from socs_bl.superdarn.samples import Antennas, read_antennas
from socs_bl.superdarn.work import Broken, NoParameters, judged, like, reading, unchanged, whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL.Image import Image as Picture

_DPI = 100
_QUALITY = 90


class PlotParameters(BaseModel):
    """What is drawn."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    style: Literal["sequences", "snr"] = "sequences"
    """The upper panel: sequences of each averaging period, 12 x 10 inches; or the signal-to-noise ratio, 32 x 16 inches."""

    antennas: tuple[int, ...] | None = None
    """Numbers of those drawn; all of the file's by default."""

    first_sample: int = Field(0, ge=0)
    last_sample: int = Field(70, gt=0)
    """Samples of each sequence, the last one exclusive."""

    min_power: float | None = None
    max_power: float | None = None
    """Ends of the colour scale: 30 to 80 dB, 20 log10 of the voltage; for `snr` 10 to 40 dB, 10 log10 of it, as it was."""

    @property
    def scale(self) -> tuple[float, float]:
        """Ends of the colour scale."""
        low, high = (10.0, 40.0) if self.style == "snr" else (30.0, 80.0)
        return (low if self.min_power is None else self.min_power), (high if self.max_power is None else self.max_power)

    @model_validator(mode="after")
    def _ordered(self) -> PlotParameters:
        if self.last_sample <= self.first_sample or self.scale[1] <= self.scale[0]:
            raise ValueError("last_sample is to be above first_sample, max_power above min_power")
        return self


class PlotAntennas:
    """Stage `plot_antennas_iq`: a picture for each antenna of an `antennas_iq` file of any structure."""

    kind: ClassVar[str] = "derive"
    parameters: ClassVar[type[BaseModel]] = PlotParameters

    @staticmethod
    @judged
    def work(input: Path, output_directory: Path, parameters: PlotParameters) -> StageResult:
        """Draw one file.

        Verdict `suspect` when an antenna that was asked for is not in the file or has no signal at all.
        """
        name = names.parse_block(input.name)
        if not name.type.endswith("_iq"):
            raise Broken(f"{input.name} is {name.type}; only samples of antennas are drawn")
        with unchanged(input), reading(input, h5py_works), h5py.File(input, "r") as file:
            seen = read_antennas(file, parameters.first_sample, parameters.last_sample)
        wanted = seen.numbers if parameters.antennas is None else parameters.antennas
        missing = sorted(set(wanted) - set(seen.numbers))
        outputs = []
        for number in wanted:
            if number in missing:
                continue
            plot = names.plot_name(name, number, parameters.first_sample, parameters.last_sample)
            output = output_directory / str(plot)
            with whole(output) as path:
                figure = draw(name, seen, seen.numbers.index(number), parameters)
                figure.savefig(path, dpi=_DPI, pil_kwargs={"quality": _QUALITY})
            # A figure is a ring of references, and 20 of them are 100 MB.
            del figure
            gc.collect()
            outputs.append(output)
        findings = [f"antenna {number} is not in the file" for number in missing]
        findings += [f"antenna {number} has no signal: every sample is 0" for number in seen.zero if number in wanted]
        return StageResult(
            outputs=tuple(outputs),
            verdict=Verdict.SUSPECT if findings else Verdict.OK,
            reason="; ".join(findings),
            metadata=name_metadata(name) | {"plots": len(outputs), "sequences": int(seen.counts.sum())},
        )


def draw(name: BlockName, seen: Antennas, row: int, parameters: PlotParameters) -> Figure:
    """The picture of the antenna in row `row` of `seen`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    snr = parameters.style == "snr"
    figure = Figure(figsize=(32, 16) if snr else (12, 10), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(2, 2, width_ratios=(95, 5), height_ratios=(1, 3))
    above = figure.add_subplot(grid[0, 0])
    below = figure.add_subplot(grid[1, 0], sharex=above)
    total = int(seen.counts.sum())
    first, last = (datetime.datetime.fromtimestamp(moment, datetime.UTC) for moment in (seen.first, seen.last))
    span = f"{first:%Y-%m-%d}, {first:%H:%M:%S} to {last:%H:%M:%S} UTC"
    figure.suptitle(f"{seen.station.upper()} - {seen.experiment}: antenna_{seen.numbers[row]} Power - {span}")
    if snr:
        above.plot(np.arange(total), seen.snr[row] / 2, linewidth=0.5)
        above.set_title("Largest signal-to-noise ratio of each sequence")
        above.set_ylabel("SNR (dB)")
    else:
        above.stairs(seen.counts, np.concatenate([[0], np.cumsum(seen.counts)]), baseline=None)
        above.set_ylabel("# sequences")
    image = below.imshow(
        seen.power[row].T / (2 if snr else 1),
        aspect="auto",
        origin="lower",
        cmap="plasma",
        vmin=parameters.scale[0],
        vmax=parameters.scale[1],
        extent=(0, total, parameters.first_sample, parameters.first_sample + seen.power.shape[2]),
    )
    below.set_xlabel("Sequence number")
    below.set_ylabel("Sample number (range)")
    figure.colorbar(image, cax=figure.add_subplot(grid[1, 1]), label="Power (dB)")
    return figure


class ThumbnailParameters(BaseModel):
    """How small."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    width: int = Field(1000, ge=16, le=4000)
    """Pixels; 1000 for what leaves the site, 160 for the archive. Pictures are never enlarged."""

    prefix: Literal["", "thumbnail-"] = ""
    """Of the small copy's name; the archive's is ``thumbnail-``."""

    quality: int = Field(82, ge=1, le=95)
    levels: int = Field(136, ge=2, le=256)
    """JPEG quality, and the levels that each colour is reduced to."""

    dated: bool = False
    """Whether it goes into a folder ``YYYY/MM``."""


class Thumbnail:
    """Stage `thumbnail`: a small copy of a picture, under the same name or with a prefix."""

    kind: ClassVar[str] = "derive"
    parameters: ClassVar[type[BaseModel]] = ThumbnailParameters

    @staticmethod
    @judged
    def work(input: Path, output_directory: Path, parameters: ThumbnailParameters) -> StageResult:
        """Reduce one picture."""
        from PIL import Image

        plot = names.parse_plot(input.name)
        small = str(plot) if plot.thumbnail else parameters.prefix + str(plot)
        output = _place(output_directory, plot.folder if parameters.dated else "", small)
        if output == input:
            raise Broken(f"{input.name} would be reduced onto itself; give another output directory or a prefix")
        with whole(output) as path, unchanged(input) as seen:
            with reading(input, _pillow_works, Image.DecompressionBombError), Image.open(input) as picture:
                reduced = _reduce(picture.convert("RGB"), parameters)
            reduced.save(path, quality=parameters.quality, optimize=True)
            like(path, seen)
        return StageResult(outputs=(output,), metadata={"width": reduced.width, "height": reduced.height})


def _reduce(picture: Picture, parameters: ThumbnailParameters) -> Picture:
    """The picture at its new width, its colours in fewer levels so that they pack well."""
    from PIL import Image

    width = min(parameters.width, picture.width)
    height = max(1, round(picture.height * width / picture.width))
    steps = parameters.levels - 1
    table = [round(round(value * steps / 255) * 255 / steps) for value in range(256)]
    return picture.resize((width, height), Image.Resampling.LANCZOS).point(table * 3)


def _pillow_works() -> str:
    """Whether Pillow draws and reads a JPEG; empty, or what went wrong."""
    import io

    try:
        from PIL import Image

        file = io.BytesIO()
        Image.new("RGB", (8, 8)).save(file, "jpeg")
        Image.open(file).load()
    except Exception as error:  # noqa: BLE001  whatever it is, it is not the fault of anybody's picture
        return f"{type(error).__name__}: {error}"
    return ""


class DatedFolder:
    """Stage `dated_folder`: a copy in ``YYYY/MM`` below the output directory, by the time in the name."""

    kind: ClassVar[str] = "transform"
    parameters: ClassVar[type[BaseModel]] = NoParameters

    @staticmethod
    @judged
    def work(input: Path, output_directory: Path, parameters: NoParameters) -> StageResult:
        """Copy one data file or picture; it is the name's month, not today's, and missing folders are made."""
        output = _place(output_directory, _name(input.name).folder, input.name)
        with whole(output) as path, unchanged(input) as seen:
            shutil.copyfile(input, path)
            like(path, seen)
        return StageResult(outputs=(output,), metadata={"folder": _name(input.name).folder})


def _name(text: str) -> BlockName | PlotName:
    try:
        return names.parse_plot(text)
    except Refused:
        return names.parse_block(text)


def _place(directory: Path, folder: str, name: str) -> Path:
    """Where a file goes; folders are made below a directory that is there, never the directory itself."""
    if not directory.is_dir():
        raise FileNotFoundError(2, "No such directory", str(directory))
    place = directory / folder
    place.mkdir(parents=True, exist_ok=True)
    return place / name
