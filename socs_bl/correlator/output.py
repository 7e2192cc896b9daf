"""Where each product of a pipeline stands in the files: spectra to the pieces of spectral windows.

A product is one polarisation product of a baseline (cross) or of an antenna (auto). Baselines and antennas count in the
order of the subarray's stations. A window of the lower sideband has its channels reversed and conjugated, so that
frequency rises with the channel. Without a transform the lags stand in place of the channels, as they are; of a parallel
hand's auto product the real part, which has all there is: the lags of one sideband are an analytic signal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from socs_bl.bdf.layout import baseline
from socs_bl.bdf.scan import mjd_ns
from socs_bl.bdf.writer import Piece
from socs_bl.core.errors import Refused
from socs_bl.correlator.configuration import Configuration, Mapping, Product
from socs_bl.correlator.integration import Grid, Spectra
from socs_bl.correlator.pipeline import Recipe
from socs_bl.correlator.plan import Plan
from socs_bl.correlator.spectrum import vector_loop

Numbers = npt.NDArray[np.int64]


class _Place(NamedTuple):
    """Where one product stands: group and member of the plan; row, label and value of the window.

    `parts`: values that it takes, -2 when the second one, the imaginary part, changes its sign.
    """

    group: int
    member: int
    row: int
    label: int
    value: int
    parts: int


@dataclass(frozen=True, slots=True)
class _Side:
    """The cross or the auto products of a window.

    Attributes
    ----------
    numbers : int64 array or None
        Baselines or antennas that this pipeline has; None: all.
    rows, labels : int
        How many, and how many polarisation products the window has.
    places : dict of int to int64 array, (products, 5)
        By group: member, row within `numbers`, label, value, parts.
    """

    numbers: Numbers | None
    rows: int
    labels: int
    places: dict[int, Numbers]

    @classmethod
    def make(cls, places: Sequence[_Place], rows: int, labels: int) -> _Side:
        """From the places of a window that has so many rows in the file, and so many products."""
        numbers = sorted({place.row for place in places})
        local = {number: row for row, number in enumerate(numbers)}
        groups: dict[int, list[tuple[int, ...]]] = {}
        for place in places:
            groups.setdefault(place.group, []).append((place.member, local[place.row], *place[3:]))
        whole = len(numbers) == rows
        arrays = {group: np.array(items, np.int64) for group, items in groups.items()}
        return cls(None if whole else np.array(numbers, np.int64), len(numbers), labels, arrays)

    def accounts(
        self, spectra: Sequence[Spectra], grid: Grid, start_ns: int, bins: int
    ) -> tuple[npt.NDArray[np.int32], Numbers, Numbers]:
        """Flags, midpoints (ns since MJD 0) and durations (ns), each (rows, bins, labels); flagged where no data came."""
        shape = (self.rows, bins, self.labels)
        flags = np.ones(shape, np.int32)
        times = np.full(shape, mjd_ns(start_ns) + grid.interval_ns // 2, np.int64)
        durations = np.zeros(shape, np.int64)
        for group, places in self.places.items():
            members, rows, labels = places[:, 0], places[:, 1], places[:, 2]
            dumps = spectra[group].dumps[members]
            flags[rows, :, labels] = dumps == 0
            durations[rows, :, labels] = dumps * np.int64(grid.dump_ns)
            middle = (spectra[group].offsets[members] + 0.5) * grid.dump_ns
            times[rows, :, labels] = mjd_ns(start_ns) + np.rint(middle).astype(np.int64)
        return flags, times, durations


class WindowOutput:
    """The part of one window that this pipeline makes.

    Parameters
    ----------
    configuration : Configuration
    mapping : Mapping
        Of the window.
    plan : Plan
        Of the pipeline.
    recipe : Recipe

    Raises
    ------
    Refused
        When a product does not fit the window; names both.

    Attributes
    ----------
    subarray : Subarray
    """

    def __init__(self, configuration: Configuration, mapping: Mapping, plan: Plan, recipe: Recipe) -> None:
        self.subarray, self._window = configuration.window(mapping.window)
        self._position = self.subarray.ordered_windows().index(self._window)
        self._lower = recipe.transforms and self._window.sideband == "L"
        self._antennas = {item.station: number for number, item in enumerate(self.subarray.ordered_antennas())}
        where = {
            product.name: (number, member, product)
            for number, group in enumerate(plan.groups)
            for member, product in enumerate(group.products)
        }
        cross, auto = dict[tuple[int, int], _Place](), dict[tuple[int, int], _Place]()
        for item in mapping.assignments:
            group, member, product = where[item.product]
            self._check(product, recipe)
            place, places = self._place(group, member, product, item.polarisation), auto if product.auto else cross
            if places.setdefault((place.row, place.label), place) is not place:
                raise Refused(f"product {product.name} ({item.polarisation}): its place in {mapping.window} is taken")
        antennas = len(self._antennas)
        self._cross = _Side.make([*cross.values()], antennas * (antennas - 1) // 2, len(self._window.cross))
        self._auto = _Side.make([*auto.values()], antennas, len(self._window.auto))

    def _check(self, product: Product, recipe: Recipe) -> None:
        window, channels = self._window, recipe.channels(product.lags)
        if channels != window.channels or product.bins != window.bins:
            raise Refused(
                f"product {product.name} gives {channels} channels and {product.bins} bins, but its window "
                f"{window.name} has {window.channels} and {window.bins}; make them equal"
            )

    def _place(self, group: int, member: int, product: Product, polarisation: str) -> _Place:
        """Row and polarisation of a product."""
        window, stations = self._window, (product.x.station, product.y.station)
        labels = window.auto if product.auto else window.cross
        mirrored = product.auto and polarisation not in labels  # B*A in place of A*B: its conjugate
        label = polarisation[::-1] if mirrored else polarisation
        strange = [station for station in stations if station not in self._antennas]
        if strange:
            raise Refused(f"product {product.name}: station {strange[0]} is not in subarray {self.subarray.name}")
        if label not in labels or stations[0] > stations[1]:
            raise Refused(
                f"product {product.name} ({polarisation}, stations {stations[0]} and {stations[1]}) has no place in window "
                f"{window.name}: that has {' '.join(labels) or 'no such products'}, and x is the lower station"
            )
        number = labels.index(label)
        x, y = (self._antennas[station] for station in stations)
        if not product.auto:
            return _Place(group, member, baseline(x, y), number, number, 1)
        value, parts = auto_values(labels)[number]
        return _Place(group, member, x, number, value, -parts if mirrored and parts == 2 else parts)

    def piece(self, spectra: Sequence[Spectra], grid: Grid, start_ns: int, flagged: bool) -> Piece:
        """The window's piece of an integration.

        Parameters
        ----------
        spectra : sequence of Spectra
            Of each group of the plan.
        grid : Grid
        start_ns : int
            Of the integration, unix ns.
        flagged : bool
            Flag it all: its first dumps went to a process that is no more.
        """
        flags: dict[str, npt.NDArray[np.int32]] = {}
        times: dict[str, npt.NDArray[np.int64]] = {}
        durations: dict[str, npt.NDArray[np.int64]] = {}
        for name, side in (("cross", self._cross), ("auto", self._auto)):
            if side.rows:
                accounts = side.accounts(spectra, grid, start_ns, self._window.bins)
                flags[name], times[name], durations[name] = accounts
                flags[name] |= flagged
        return Piece(
            window=self._position,
            baselines=self._cross.numbers,
            antennas=self._auto.numbers,
            cross=self._cross_data(spectra) if self._cross.rows else None,
            auto=self._auto_data(spectra) if self._auto.rows else None,
            cross_flags=flags.get("cross"),
            auto_flags=flags.get("auto"),
            cross_times=times.get("cross"),
            auto_times=times.get("auto"),
            cross_durations=durations.get("cross"),
            auto_durations=durations.get("auto"),
        )

    def _cross_data(self, spectra: Sequence[Spectra]) -> npt.NDArray[np.complex64]:
        """Cross spectra, (baselines, bins, channels, products)."""
        window = self._window
        data = np.zeros((self._cross.rows, window.bins, window.channels, self._cross.labels), np.complex64)
        for group, places in self._cross.places.items():
            place_cross(spectra[group].values, places, self._lower, data)
        return data

    def _auto_data(self, spectra: Sequence[Spectra]) -> npt.NDArray[np.float32]:
        """Auto spectra, (antennas, bins, channels, values)."""
        window = self._window
        values = sum(count for _, count in auto_values(window.auto))
        data = np.zeros((self._auto.rows, window.bins, window.channels, values), np.float32)
        for group, places in self._auto.places.items():
            place_auto(spectra[group].values, places, self._lower, data)
        return data


def auto_values(labels: Sequence[str]) -> list[tuple[int, int]]:
    """First value and number of values of each label: of three, the mixed hand (RL) takes two, real and imaginary part."""
    found, value = list[tuple[int, int]](), 0
    for label in labels:
        found.append((value, 2 if len(labels) == 3 and label[0] != label[1] else 1))
        value += found[-1][1]
    return found


def make_outputs(configuration: Configuration, pipe: str, plan: Plan, recipe: Recipe) -> tuple[WindowOutput, ...]:
    """The windows that a pipeline makes, whole or in part.

    Raises
    ------
    Refused
        When a product does not fit its window.
    """
    mappings = [mapping for mapping in configuration.mappings if mapping.pipe == pipe]
    return tuple(WindowOutput(configuration, mapping, plan, recipe) for mapping in mappings)


@vector_loop
def place_cross(
    values: npt.NDArray[np.complex64], places: Numbers, lower: bool, data: npt.NDArray[np.complex64]
) -> None:
    """Copy spectra to their baselines and polarisations."""
    channels = values.shape[2]
    for item in range(places.shape[0]):
        member, row, label = places[item, 0], places[item, 1], places[item, 2]
        for phase in range(values.shape[1]):
            for channel in range(channels):
                if lower:
                    data[row, phase, channels - 1 - channel, label] = np.conj(values[member, phase, channel])
                else:
                    data[row, phase, channel, label] = values[member, phase, channel]


@vector_loop
def place_auto(values: npt.NDArray[np.complex64], places: Numbers, lower: bool, data: npt.NDArray[np.float32]) -> None:
    """Copy spectra to their antennas and values; the sign of an imaginary part changes with the sideband and the order."""
    channels = values.shape[2]
    for item in range(places.shape[0]):
        member, row, value, parts = places[item, 0], places[item, 1], places[item, 3], places[item, 4]
        sign = np.float32(-1 if (parts < 0) != lower else 1)
        for phase in range(values.shape[1]):
            for channel in range(channels):
                to = channels - 1 - channel if lower else channel
                data[row, phase, to, value] = values[member, phase, channel].real
                if abs(parts) == 2:
                    data[row, phase, to, value + 1] = sign * values[member, phase, channel].imag
