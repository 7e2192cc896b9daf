"""What a configuration says: streams, lag products, subarrays, spectral windows and the pipeline each product enters.

Frozen records without XML; `document` reads and writes them. Names follow the configuration document.
"""

from __future__ import annotations

from dataclasses import dataclass

LAGS_PER_FRAME = 128
LAGS_PER_HALF_FRAME = 64


@dataclass(frozen=True, slots=True)
class Stream:
    """One station's signal in one subband: what an input of a correlator chip carries.

    Attributes
    ----------
    name : str
        The document's id.
    station, baseband, subband : int
        1-255, 0-7, 0-17.
    """

    name: str
    station: int
    baseband: int
    subband: int


@dataclass(frozen=True, slots=True)
class Product:
    """One correlation of two streams, all lags of it.

    Attributes
    ----------
    name : str
    x, y : Stream
        The same station on both sides: an auto product. Otherwise the lower station is x.
    lags : int
        Complex lags of the whole set, a power of two: ``frames * recirculation * lags_per_frame``.
    frames : int
        Frames of one recirculation block (blocks of the lag chain, 1-16).
    recirculation : int
        1-256.
    bins : int
        Phase bins.
    chip, cell : int
        Correlator chip (0-63) and first cell (0-15); -1: any. They tell products of the same two streams apart.
    half : bool
        64 lags a frame instead of 128.
    """

    name: str
    x: Stream
    y: Stream
    lags: int = LAGS_PER_FRAME
    frames: int = 1
    recirculation: int = 1
    bins: int = 1
    chip: int = -1
    cell: int = -1
    half: bool = False

    @property
    def lags_per_frame(self) -> int:
        """Complex lags in one frame."""
        return LAGS_PER_HALF_FRAME if self.half else LAGS_PER_FRAME

    @property
    def frames_per_set(self) -> int:
        """Frames of one lag set, of one phase bin."""
        return self.frames * self.recirculation

    @property
    def auto(self) -> bool:
        """Both streams are of one station."""
        return self.x.station == self.y.station


@dataclass(frozen=True, slots=True)
class Antenna:
    """A station of a subarray."""

    station: int
    name: str


@dataclass(frozen=True, slots=True)
class Window:
    """A spectral window of the output.

    Attributes
    ----------
    name : str
        The document's id.
    baseband : str
        swbb, such as ``AC_8BIT``.
    number : int
        sw: consecutive from 1 in its baseband.
    channels : int
        Spectral points that are written: half of the lags, divided by the boxcar's span. With ``noTransform`` (no fft in
        the pipeline): the lags.
    bandwidth : float
        Hz.
    sideband : str
        ``U`` or ``L``.
    cross, auto : tuple of str
        Polarisation products in the order of the file, such as ``RR RL LR LL`` and ``RR RL LL``.
    bins : int
        Phase bins.
    centre : float
        Sky frequency of the centre, Hz; 0: unknown.
    """

    name: str
    baseband: str
    number: int
    channels: int
    bandwidth: float
    sideband: str
    cross: tuple[str, ...]
    auto: tuple[str, ...]
    bins: int = 1
    centre: float = 0.0


@dataclass(frozen=True, slots=True)
class Subarray:
    """Antennas that observe together, and their windows; one file a scan."""

    name: str
    config_id: str
    antennas: tuple[Antenna, ...]
    windows: tuple[Window, ...]

    def ordered_antennas(self) -> tuple[Antenna, ...]:
        """The antennas by station: their order in every file."""
        return tuple(sorted(self.antennas, key=lambda antenna: antenna.station))

    def ordered_windows(self) -> tuple[Window, ...]:
        """The windows in the order of the file: basebands ascending, then windows ascending."""
        return tuple(sorted(self.windows, key=lambda window: (window.baseband, window.number)))


@dataclass(frozen=True, slots=True)
class Assignment:
    """A product's place in the output.

    Attributes
    ----------
    product : str
        Name of the product.
    polarisation : str
        Such as ``RL``.
    """

    product: str
    polarisation: str


@dataclass(frozen=True, slots=True)
class Mapping:
    """The products that make one window, and the pipeline they enter."""

    window: str
    pipe: str
    assignments: tuple[Assignment, ...]


@dataclass(frozen=True, slots=True)
class Pipe:
    """A pipeline: its name and its text, elements joined by ``!``."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Configuration:
    """Everything a document says. With nothing in it: ``c0``.

    Attributes
    ----------
    name : str
    dump_ns : int
        Length of a dump of the long-term accumulators; 0: learned from the frames.
    """

    name: str
    dump_ns: int = 0
    streams: tuple[Stream, ...] = ()
    products: tuple[Product, ...] = ()
    subarrays: tuple[Subarray, ...] = ()
    pipes: tuple[Pipe, ...] = ()
    mappings: tuple[Mapping, ...] = ()

    def pipe_products(self, pipe: str) -> tuple[Product, ...]:
        """The products that enter a pipeline, in the order of the document."""
        wanted = {item.product for mapping in self.mappings if mapping.pipe == pipe for item in mapping.assignments}
        return tuple(product for product in self.products if product.name in wanted)

    def window(self, name: str) -> tuple[Subarray, Window]:
        """A window by its name, and the subarray it belongs to.

        Raises
        ------
        KeyError
            When no subarray has it.
        """
        for subarray in self.subarrays:
            for window in subarray.windows:
                if window.name == name:
                    return subarray, window
        raise KeyError(name)
