"""Lag set files against bytes worked out by hand."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from socs_bl.core.errors import Refused
from socs_bl.correlator.bls import LagSetFiles, read_lag_sets, record_words
from socs_bl.correlator.configuration import Product, Stream
from socs_bl.correlator.pipeline import parse_pipeline
from socs_bl.correlator.plan import SUSPECT, Plan, make_plan
from socs_bl.correlator.stage import Stage
from tests.correlator.dumps import START, empty_slot, noise_slot

X, Y = Stream("x", 3, 1, 2), Stream("y", 9, 4, 17)


def test_the_bytes_of_a_record(tmp_path: Path) -> None:
    """Two frames of 64 lags, the second missing: every word as the tables of the format have it."""
    product = Product("p1", X, Y, 128, frames=2, chip=5, cell=15, half=True)
    plan = make_plan([product])
    slot, group = empty_slot(plan), plan.groups[0]
    group.state(slot)[0, 0] = [SUSPECT, 0]
    group.counts(slot)[0, 0, 0] = [1000, 900]
    group.lag_pairs(slot)[0, 0, :2] = [[1, -1], [256, -(2**31)]]
    files = LagSetFiles(tmp_path / "sets", plan, 1 << 20)
    files.write(1_000_000_000 * 10**9 + 500, slot)
    files.close()
    word1 = 0b100_10001_00001001_001_00010_00000011  # Y: band 4, subband 17, station 9; X: 1, 2, 3
    word2 = 0b0000_0_00010_01000000_000101_1111_000_0  # block 0 of 2, 64 lags, chip 5, cell 15
    status = 4 << 24
    words = [0xF83E0F83, word1, word2, status, 1_000_000_000, 500, 1000, 900, 0]
    lags = [1, 0xFFFFFFFF, 256, 0x80000000]
    checksum = (sum(words) + sum(lags)) % 2**32
    expected = [*words[:2], 2, word2 | 1, *words[3:], checksum, *[0] * 8, 128, *lags, *[0] * 252]
    assert len(expected) == 4 + 8 * 2 + 2 * 128
    assert (tmp_path / "sets" / "p1.bls").read_bytes() == np.array(expected, ">u4").tobytes()


def test_the_size_of_a_record_of_one_frame() -> None:
    """One frame of 128 lags: 268 words, 1072 bytes."""
    assert 4 * record_words(1, 128) == 1072


def write_some(directory: Path, dumps: int, **shape: int) -> tuple[Plan, list[npt.NDArray[np.uint8]]]:
    """A pipeline with a bls element, fed with some dumps."""
    plan = make_plan([Product(name, X, Y, **shape) for name in ("a", "b")])  # type: ignore[arg-type]
    files = LagSetFiles(directory, plan, 1 << 24)
    stage = Stage(parse_pipeline("bls path=x"), plan, 10**8, lambda done: None, files)
    slots = [noise_slot(plan, seed) for seed in range(dumps)]
    for number, slot in enumerate(slots):
        stage.take(START + number * 10**8, slot)
    files.close()
    return plan, slots


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    """Frames, recirculation blocks and bins of every dump in order of time, lags as they were."""
    plan, slots = write_some(tmp_path, 3, lags=512, frames=2, recirculation=2, bins=2)
    group = plan.groups[0]
    for member, name in enumerate("ab"):
        records = list(read_lag_sets(tmp_path / f"{name}.bls"))
        assert len(records) == 6
        for number, record in enumerate(records):
            dump, phase = divmod(number, 2)
            assert (record.lags == group.lag_pairs(slots[dump])[member, phase]).all()
            places = [(head["recirculation_x"], head["start_block"], head["bin"]) for head in record.headers]
            assert places == [(0, 0, phase), (0, 1, phase), (1, 0, phase), (1, 1, phase)]
            assert {head["nanoseconds"] for head in record.headers} == {dump * 10**8}


def test_a_half_record_is_cut_off(tmp_path: Path) -> None:
    """A writer that was killed leaves half a record; the next one goes on where whole ones end."""
    write_some(tmp_path, 2)
    os.truncate(tmp_path / "a.bls", 1072 + 500)
    write_some(tmp_path, 2)
    assert len(list(read_lag_sets(tmp_path / "a.bls"))) == 3
    assert len(list(read_lag_sets(tmp_path / "b.bls"))) == 4


def test_the_limit_and_a_disk_that_refuses(tmp_path: Path) -> None:
    """What does not fit is left out and counted; the pipeline lives."""
    plan = make_plan([Product("a", X, Y)])
    files = LagSetFiles(tmp_path, plan, 2 * 1072)
    for seed in range(3):
        files.write(START, noise_slot(plan, seed))
    files.close()
    assert (files.records, files.left_out) == (2, 1)
    (tmp_path / "file").write_bytes(b"")
    refused = LagSetFiles(tmp_path / "file" / "x", plan, 1 << 20)
    refused.write(START, noise_slot(plan, 1))
    refused.write(START, noise_slot(plan, 1))
    assert "Not a directory" in refused.error and refused.left_out == 2


def test_damage_is_located(tmp_path: Path) -> None:
    """Fault 31: every cut and every flipped word gives whole records or a sentence with the byte, never anything else."""
    write_some(tmp_path, 2)
    path, good = tmp_path / "a.bls", (tmp_path / "a.bls").read_bytes()
    random = np.random.default_rng(1)
    for _ in range(300):
        data = bytearray(good[: random.integers(1, len(good))])
        place = int(random.integers(len(data)))
        data[place : place + 4] = random.bytes(4)
        path.write_bytes(data)
        try:
            assert len(list(read_lag_sets(path))) <= 2
        except Refused as error:
            assert "byte" in str(error)
    path.write_bytes(good[:1072] + b"\0" * 1072)
    with pytest.raises(Refused, match="byte 1072: 0x00000000 is not the sync word"):
        list(read_lag_sets(path))


def test_product_names_are_file_names(tmp_path: Path) -> None:
    """A product that would be written elsewhere is refused."""
    with pytest.raises(Refused, match="no file name"):
        LagSetFiles(tmp_path, make_plan([Product("../a", X, Y)]), 1)
