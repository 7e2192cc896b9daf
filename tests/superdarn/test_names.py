"""Names: every form in, the same name out; what fits no form is refused."""

from __future__ import annotations

import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from socs_bl.core.errors import Refused
from socs_bl.superdarn import names
from socs_bl.superdarn.names import BlockName, Form

GOLDEN = [
    ("20240305.1400.00.sas.0.rawacf.hdf5.site", Form.SITE, 0, "rawacf"),
    ("20191105.1400.02.sas.12.antennas_iq.hdf5.site", Form.SITE, 12, "antennas_iq"),
    ("20191105.1400.02.pgr.1.bfiq.hdf5", Form.ARRAY, 1, "bfiq"),
    ("20191105.1400.02.pgr.rawrf.hdf5.site", Form.SITE, None, "rawrf"),
    ("20191105.1400.02.pgr.0.txdata_iq.hdf5.site", Form.SITE, 0, "txdata_iq"),
    ("20260806.0200.01.inv.2.rawacf.h5", Form.V1, 2, "rawacf"),
    ("20260806.0200.01.inv.2.antennas_iq.h5", Form.V1, 2, "antennas_iq"),
    ("20260806.0200.01.cly.b.rawacf", Form.DMAP, 1, "rawacf"),
    ("20260806.0200.01.rkn.z.rawacf.bz2", Form.DMAP, 25, "rawacf"),
    ("20200804.2200.01.mcm.rawacf.bz2", Form.DMAP, None, "rawacf"),
]


@pytest.mark.parametrize(("text", "form", "number", "kind"), GOLDEN)
def test_forms_of_both_generations(text: str, form: Form, number: int | None, kind: str) -> None:
    """Every pattern that the radars and the other institutions write is known, and comes back letter for letter."""
    name = names.parse_block(text)
    assert (name.form, name.slice, name.type) == (form, number, kind)
    assert str(name) == text
    assert name.folder == f"{text[:4]}/{text[4:6]}"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "readme.txt",
        "20240305.1400.00.sas.0.rawacf",  # DMAP has a letter
        "20240305.1400.00.sas.a.rawacf.h5",  # HDF5 has a number
        "20240305.1400.00.sas.0.rawacf.hdf5.site.bz2",
        "20240305.1400.00.sas.0.rawacf.h5\n",
        "20240305.1400.00.sas.0.rawacf.h5.tmp",
        "20240305.1400.00.SAS.0.rawacf.h5",
        "20240305.1400.00.sas.00.rawacf.h5",
        "20240305.1400.00.sas.0.rawrf.h5",  # raw samples have no slice
        "20241305.1400.00.sas.0.rawacf.h5",
        "20230229.1400.00.sas.0.rawacf.h5",
        "20240305.1400.61.sas.0.rawacf.h5",
        "20240305x1400x00xsas.0.rawacf.h5",  # the dots are dots
        "../20240305.1400.00.sas.0.rawacf.h5",
        "20240305.1400.00.sas.٣.rawacf.h5",
        "20240305.1400.00.sas.0." + "a" * 200 + "_iq.h5",
    ],
)
def test_other_names_are_refused(text: str) -> None:
    """What fits no form never becomes a path or a catalogue entry."""
    with pytest.raises(Refused):
        names.parse_block(text)


def test_translations_of_both_directions() -> None:
    """site -> array -> DMAP and back to either generation, as in the original, with the endings that it got wrong."""
    site = names.parse_block("20240305.1400.00.sas.1.rawacf.hdf5.site")
    assert str(names.array_name(site)) == "20240305.1400.00.sas.1.rawacf.hdf5"
    dmap = names.dmap_name(site)
    assert str(dmap) == "20240305.1400.00.sas.b.rawacf.bz2"
    assert names.dmap_name(names.parse_block("20240305.1400.00.sas.1.rawacf.h5")) == dmap
    assert str(names.borealis_name(dmap, Form.V1)) == "20240305.1400.00.sas.1.rawacf.h5"
    assert str(names.borealis_name(dmap, Form.ARRAY)) == "20240305.1400.00.sas.1.rawacf.hdf5"


@pytest.mark.parametrize(
    "attempt",
    [
        lambda: names.dmap_name(names.parse_block("20240305.1400.00.sas.26.rawacf.h5")),
        lambda: names.dmap_name(names.parse_block("20240305.1400.00.sas.0.antennas_iq.h5")),
        lambda: names.borealis_name(names.parse_block("20240305.1400.00.mcm.rawacf.bz2"), Form.V1),
        lambda: names.borealis_name(names.parse_block("20240305.1400.00.sas.a.rawacf.bz2"), Form.DMAP),
        lambda: names.array_name(names.parse_block("20240305.1400.00.sas.0.rawacf.h5")),
        lambda: names.slice_number("A"),
        lambda: names.plot_name(names.parse_block("20240305.1400.00.sas.rawrf.h5"), 0, 0, 70),
    ],
)
def test_names_without_a_partner_are_refused(attempt: object) -> None:
    """A slice beyond z, a type that is not distributed or a name without channel gives no wrong name."""
    with pytest.raises(Refused):
        attempt()  # type: ignore[operator]


@pytest.mark.parametrize("small", ["", "thumbnail-"])
def test_plots(small: str) -> None:
    """Names of plots and of their small copies."""
    text = f"{small}20240305.1400.00.sas.0.antennas_iq.antenna_19_0_70.jpg"
    plot = names.parse_plot(text)
    assert (plot.antenna, plot.first_sample, plot.last_sample, plot.thumbnail) == (19, 0, 70, bool(small))
    assert str(plot) == text
    with pytest.raises(Refused):
        names.parse_plot(text + ".jpg")


def test_clock_of_1970_is_seen() -> None:
    """A file of 1970 differs from its mtime by decades; a two-hour block by two hours."""
    name = names.parse_block("20240305.1400.00.sas.0.rawacf.h5")
    end = (int(name.time.timestamp()) + 7200) * 10**9
    assert names.clock_error(name, end) == 7200
    lost = names.parse_block("19700101.0003.10.sas.0.rawacf.h5")
    assert names.clock_error(lost, end) > names.CLOCK_TOLERANCE_S


@given(
    time=st.datetimes(datetime.datetime(1970, 1, 1), datetime.datetime(2100, 1, 1)),
    radar=st.text("abcdefghijklmnopqrstuvwxyz", min_size=3, max_size=3),
    number=st.integers(0, 25),
    form=st.sampled_from(list(Form)),
    packed=st.booleans(),
)
@settings(max_examples=100)
def test_round_trip(time: datetime.datetime, radar: str, number: int, form: Form, packed: bool) -> None:
    """Any name that can be built is parsed to itself, and DMAP and back gives the file it came from."""
    name = BlockName(
        time=time.replace(microsecond=0, tzinfo=datetime.UTC),
        radar=radar,
        slice=number,
        type="rawacf",
        form=form,
        packed=packed and form is Form.DMAP,
    )
    assert names.parse_block(str(name)) == name
    if form is not Form.DMAP:
        assert names.borealis_name(names.parse_block(str(names.dmap_name(name))), form) == name
