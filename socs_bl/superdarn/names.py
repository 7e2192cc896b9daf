"""Names of the files that SuperDARN radars write: parsed strictly, built back, translated between the forms.

A name is ``YYYYMMDD.HHMM.SS.<radar>.<slice>.<type><ending>``; its time is that of the file's first sequence, UTC.
Source: Borealis documentation, "Borealis data files"; SuperDARN DDWG, naming of distributed files.

====================  ===========================================  ==================================================
form                  ending                                       slice
====================  ===========================================  ==================================================
site (v0.x)           ``.hdf5.site``                               number; none for raw samples (``rawrf``)
array (v0.x)          ``.hdf5``                                    number; none for ``rawrf``
v1 (from v1.0 on)     ``.h5``                                      number; none for ``rawrf``
DMAP                  none or ``.bz2``; only ``rawacf``            a letter (0 is ``a``), or none from other radars
plot                  ``.antenna_<n>_<first>_<last>.jpg`` (png)    number; ``thumbnail-`` before the small ones
====================  ===========================================  ==================================================
"""

from __future__ import annotations

import datetime
import enum
import re

import msgspec

from socs_bl.core.errors import Refused

LONGEST = 120
LETTERS = 26
CLOCK_TOLERANCE_S = 86400.0
THUMBNAIL = "thumbnail-"

_TIME = r"(?P<time>[0-9]{8}\.[0-9]{4}\.[0-9]{2})"
_RADAR = r"(?P<radar>[a-z]{3})"
_NUMBER = r"(?P<number>0|[1-9][0-9]{0,2})"
_TYPE = r"(?P<type>rawacf|[a-z]{1,16}_iq|bfiq)"
_HDF5 = re.compile(rf"{_TIME}\.{_RADAR}\.(?:{_NUMBER}\.{_TYPE}|(?P<raw>rawrf))\.(?P<ending>hdf5\.site|hdf5|h5)")
_DMAP = re.compile(rf"{_TIME}\.{_RADAR}(?:\.(?P<letter>[a-z]))?\.(?P<type>rawacf)(?P<packed>\.bz2)?")
_PLOT = re.compile(
    rf"(?P<small>{THUMBNAIL})?{_TIME}\.{_RADAR}\.{_NUMBER}\.{_TYPE}\."
    r"antenna_(?P<antenna>0|[1-9][0-9]{0,2})_(?P<first>0|[1-9][0-9]{0,5})_(?P<last>0|[1-9][0-9]{0,5})\.(?P<ending>jpg|png)"
)


class Form(enum.StrEnum):
    """What kind of file a name belongs to."""

    SITE = "hdf5.site"
    ARRAY = "hdf5"
    V1 = "h5"
    DMAP = "dmap"


class BlockName(msgspec.Struct, frozen=True, kw_only=True):
    """The name of one block of data.

    Attributes
    ----------
    time : datetime.datetime
        Of the first sequence; UTC, whole seconds.
    radar : str
        Three letters, such as ``sas``.
    slice : int or None
        Number of the experiment's slice; None where the name does not say.
    type : str
        ``rawacf``, ``antennas_iq``, ``bfiq``, ``rawrf`` or another ``<stage>_iq``.
    form : Form
        What the file is.
    packed : bool
        DMAP only: compressed with bzip2.
    """

    time: datetime.datetime
    radar: str
    slice: int | None
    type: str
    form: Form
    packed: bool = False

    @property
    def stem(self) -> str:
        """Time and radar as all forms spell them."""
        return f"{self.time:%Y%m%d.%H%M.%S}.{self.radar}"

    @property
    def folder(self) -> str:
        """The dated folder of archives: ``YYYY/MM``."""
        return f"{self.time:%Y/%m}"

    def __str__(self) -> str:
        if self.form is Form.DMAP:
            letter = "" if self.slice is None else f".{channel_letter(self.slice)}"
            return f"{self.stem}{letter}.{self.type}{'.bz2' if self.packed else ''}"
        number = "" if self.slice is None else f".{self.slice}"
        return f"{self.stem}{number}.{self.type}.{self.form}"


class PlotName(msgspec.Struct, frozen=True, kw_only=True):
    """The name of a plot of one antenna: of which block, which antenna, which samples; whether it is the small one."""

    time: datetime.datetime
    radar: str
    slice: int
    type: str
    antenna: int
    first_sample: int
    last_sample: int
    ending: str = "jpg"
    thumbnail: bool = False

    @property
    def folder(self) -> str:
        """The dated folder of archives: ``YYYY/MM``."""
        return f"{self.time:%Y/%m}"

    def __str__(self) -> str:
        return (
            f"{THUMBNAIL if self.thumbnail else ''}{self.time:%Y%m%d.%H%M.%S}.{self.radar}.{self.slice}.{self.type}."
            f"antenna_{self.antenna}_{self.first_sample}_{self.last_sample}.{self.ending}"
        )


def parse_block(text: str) -> BlockName:
    """Parse the name of a data file, without directories.

    Raises
    ------
    Refused
        When it fits no form, or its time is no time.
    """
    if len(text) <= LONGEST and (match := _HDF5.fullmatch(text)):
        number = match["number"]
        return BlockName(
            time=_time(match["time"], text),
            radar=match["radar"],
            slice=None if number is None else int(number),
            type=match["type"] or match["raw"],
            form=Form(match["ending"]),
        )
    if len(text) <= LONGEST and (match := _DMAP.fullmatch(text)):
        letter = match["letter"]
        return BlockName(
            time=_time(match["time"], text),
            radar=match["radar"],
            slice=None if letter is None else slice_number(letter),
            type=match["type"],
            form=Form.DMAP,
            packed=match["packed"] is not None,
        )
    raise Refused(
        f"file name {text!r:.150} fits no form of SuperDARN data; one is like '20240305.1400.00.sas.0.rawacf.hdf5', "
        "'20240305.1400.00.sas.0.rawacf.h5' or '20240305.1400.00.sas.a.rawacf.bz2'"
    )


def parse_plot(text: str) -> PlotName:
    """Parse the name of a plot, without directories.

    Raises
    ------
    Refused
        When it is none.
    """
    match = _PLOT.fullmatch(text) if len(text) <= LONGEST else None
    if not match:
        raise Refused(
            f"file name {text!r:.150} is not that of a plot; one is like "
            "'20240305.1400.00.sas.0.antennas_iq.antenna_3_0_70.jpg'"
        )
    return PlotName(
        time=_time(match["time"], text),
        radar=match["radar"],
        slice=int(match["number"]),
        type=match["type"],
        antenna=int(match["antenna"]),
        first_sample=int(match["first"]),
        last_sample=int(match["last"]),
        ending=match["ending"],
        thumbnail=match["small"] is not None,
    )


def channel_letter(number: int) -> str:
    """The letter of a slice in DMAP names: 0 is ``a``.

    Raises
    ------
    Refused
        When there is none: only 26 slices can be named.
    """
    if not 0 <= number < LETTERS:
        raise Refused(f"slice {number} has no channel letter: DMAP names know slices 0 to {LETTERS - 1} (a to z)")
    return chr(ord("a") + number)


def slice_number(letter: str) -> int:
    """The slice of a channel letter.

    Raises
    ------
    Refused
        When it is not one letter from a to z.
    """
    if len(letter) != 1 or not "a" <= letter <= "z":
        raise Refused(f"channel {letter!r:.20} is not a letter from a to z")
    return ord(letter) - ord("a")


def dmap_name(name: BlockName, packed: bool = True) -> BlockName:
    """The name of the DMAP file that a Borealis `rawacf` file is converted to.

    Raises
    ------
    Refused
        When it has none: not `rawacf`, or a slice without a letter.
    """
    if name.type != "rawacf":
        raise Refused(f"{name} is {name.type}; only rawacf is distributed as DMAP")
    if name.slice is not None:
        channel_letter(name.slice)
    return msgspec.structs.replace(name, form=Form.DMAP, packed=packed)


def borealis_name(name: BlockName, form: Form) -> BlockName:
    """The name of the Borealis file that belongs to a DMAP file.

    Parameters
    ----------
    name : BlockName
        Of a DMAP file.
    form : Form
        Of the partner: what the radar of that site writes.

    Raises
    ------
    Refused
        When the name has no channel letter, or the form is DMAP.
    """
    if name.slice is None:
        raise Refused(f"{name} names no channel, so its Borealis file cannot be told")
    if form is Form.DMAP:
        raise Refused("a Borealis file is of form site, array or v1")
    return msgspec.structs.replace(name, form=form, packed=False)


def array_name(name: BlockName) -> BlockName:
    """The name of the array file that a site file is restructured to.

    Raises
    ------
    Refused
        When it is not a site file.
    """
    if name.form is not Form.SITE:
        raise Refused(f"{name} is no site file; only '.hdf5.site' is restructured to arrays")
    return msgspec.structs.replace(name, form=Form.ARRAY)


def plot_name(name: BlockName, antenna: int, first_sample: int, last_sample: int) -> PlotName:
    """The name of a plot of a block's antenna, samples `first_sample` to `last_sample` (exclusive).

    Raises
    ------
    Refused
        When the name says no slice.
    """
    if name.slice is None:
        raise Refused(f"{name} names no slice, so its plots have no name")
    return PlotName(
        time=name.time,
        radar=name.radar,
        slice=name.slice,
        type=name.type,
        antenna=antenna,
        first_sample=first_sample,
        last_sample=last_sample,
    )


def clock_error(name: BlockName, mtime_ns: int) -> float:
    """How far the time in a name is from when the file was last written, in seconds; positive when written later.

    A radar whose clock has lost GPS writes files of 1970 or 2006; a whole day of difference tells them from long blocks.
    """
    return mtime_ns / 1e9 - name.time.timestamp()


def _time(text: str, name: str) -> datetime.datetime:
    try:
        return datetime.datetime.strptime(text, "%Y%m%d.%H%M.%S").replace(tzinfo=datetime.UTC)
    except ValueError:
        raise Refused(f"file name {name!r:.150}: {text} is no time; it is YYYYMMDD.HHMM.SS, UTC") from None
