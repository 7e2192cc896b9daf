"""What is written is what two readers of other people and our own read."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from socs_bl.bdf.finish import finish
from socs_bl.bdf.layout import AUTO_ONLY, CROSS_AND_AUTO, CROSS_ONLY, Header, SpectralWindow
from socs_bl.bdf.reader import BdfReader
from tests.bdf.bdf_files import FIELDS, check_pyasdm, check_sdmpy, header, random_pieces, window, write_file

CROSS = ((), ("RR",), ("RR", "LL"), ("XX", "XY", "YX", "YY"), ("RR", "RL", "LR", "LL"))
AUTO = ((), ("LL",), ("RR", "LL"), ("RR", "RL", "LL"))
BANDS = ("A1C1_3BIT", "AC_8BIT", "BD_8BIT")


@st.composite
def headers(draw: st.DrawFn) -> Header:
    """Any shape: up to three basebands with up to two windows each, none alike."""
    mode = draw(st.sampled_from((CROSS_AND_AUTO, CROSS_ONLY, AUTO_ONLY)))
    shapes = draw(
        st.lists(
            st.tuples(
                st.sampled_from(BANDS),
                st.integers(1, 5),
                st.integers(1, 3),
                st.sampled_from(CROSS),
                st.sampled_from(AUTO),
            ),
            min_size=1,
            max_size=5,
        )
    )
    # The first window has products of all that the mode promises, every other some.
    windows: list[SpectralWindow] = []
    for place, (band, channels, bins, cross, auto) in enumerate(sorted(shapes, key=lambda shape: shape[0])):
        number = 1 + sum(one.baseband == band for one in windows)
        cross = cross or (("RR",) if place == 0 or mode == CROSS_ONLY or not auto else ())
        auto = auto or (("RR",) if place == 0 or mode == AUTO_ONLY else ())
        windows.append(window(number, channels, bins, cross, auto, band))
    antennas = draw(st.integers(1 if mode == AUTO_ONLY else 2, 5))
    return header(tuple(windows), antennas, mode)


@settings(max_examples=60)
@given(made=headers(), count=st.integers(1, 4), seed=st.integers(0, 99))
@example(made=header((window(channels=1),), 2), count=11, seed=0)
def test_two_other_readers_and_ours_read_what_was_put_in(made: Header, count: int, seed: int) -> None:
    """Every shape, all five parts: numbers, flags, actual times and durations, and the texts around them.

    The example has more than nine integrations, so that the digits of their numbers grow.
    """
    generator = np.random.default_rng(seed)
    integrations = [random_pieces(made, generator) for _ in range(count)]
    with TemporaryDirectory() as name:
        path = write_file(Path(name) / ".private", made, integrations)
        assert finish(path).integrations == count
        check_sdmpy(path, made, integrations)
        check_pyasdm(path, made, integrations)
        with BdfReader(path) as reader:
            assert len(reader) == count and reader.header == made
            for index, pieces in enumerate(integrations):
                integration = reader[index]
                for piece in pieces:
                    for field in FIELDS:
                        put, got = getattr(piece, field), getattr(integration, field)
                        assert (put is None) == (got is None), field
                        if got is not None:
                            assert np.array_equal(put, got[piece.window]), field


def test_the_digits_of_a_number_may_grow_to_three(tmp_path: Path) -> None:
    """Over a hundred integrations: 9 to 10 and 99 to 100 change nothing of a block's length."""
    made = header((window(channels=2),), 2)
    generator = np.random.default_rng(1)
    integrations = [random_pieces(made, generator) for _ in range(103)]
    path = write_file(tmp_path / ".private", made, integrations)
    finish(path)
    check_sdmpy(path, made, integrations)
    check_pyasdm(path, made, integrations)
