"""What is catalogued is found by sotodlib."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest
from sotodlib.core import Context

from socs_bl.core.errors import Refused, Retry
from socs_bl.search.catalogue import CONTEXT, HITS, OBSDB, OBSFILEDB, RAW, Catalogue

OBSID = "MeerKAT:array_1:20261121T040000Z"
NAME = f"{OBSID}:blpn64-0"
FACTS: dict[str, str | float | int] = {"timestamp": 1.7e9, "source": "J0408-65", "duration": 19.9, "hit_count": 2}


def context(directory: Path) -> Context:
    """sotodlib's view of a catalogue, with nothing from this machine's own configuration."""
    nothing = directory / "nothing.yaml"
    nothing.write_text("{}")
    return Context(str(directory / CONTEXT), site_file=str(nothing), user_file=str(nothing))


def close(opened: Context) -> None:
    opened.obsdb.conn.close()
    opened.obsfiledb.conn.close()


@pytest.mark.may_leave("descriptors")  # sotodlib opens a second connection and forgets it
def test_sotodlib_finds_recordings_and_hits(tmp_path: Path) -> None:
    """Both kinds of file are found through Context, by column and by detector set; twice is the same as once."""
    raw = [tmp_path / "buf0" / f"a.000{number}.raw" for number in range(2)]
    hits = tmp_path / "catalogue" / "products" / "a.dat"
    for _ in range(2):
        catalogue = Catalogue(tmp_path / "catalogue")
        assert catalogue.register_recording(OBSID, "blpn64/0", FACTS, raw) == NAME
        assert catalogue.register_hits(OBSID, "blpn64/0", {"hit_count": 2, "top_snr": 31.5}, [hits]) == NAME
    catalogue.register_recording(OBSID, "blpn64/1", {**FACTS, "hit_count": 0}, [tmp_path / "buf1" / "b.0000.raw"])
    opened = context(tmp_path / "catalogue")
    assert len(opened.obsdb) == 2
    row = opened.obsdb.get(NAME, tags=True)
    assert (row["source"], row["timestamp"], row["top_snr"], row["searched"]) == ("J0408-65", 1.7e9, 31.5, 1)
    assert sorted(row["tags"]) == [HITS, RAW]
    assert [found["obs_id"] for found in opened.obsdb.query("hit_count > 0")] == [NAME]
    assert len(opened.obsdb.query(f"obsid = '{OBSID}'")) == 2
    files = opened.obsfiledb.get_files(NAME)
    assert sorted(path for path, _, _ in files[RAW]) == [str(path) for path in raw]
    assert [str(Path(path).resolve()) for path, _, _ in files[HITS]] == [str(hits.resolve())]
    assert opened.obsfiledb.lookup_file(str(hits))["obs_id"] == NAME
    Catalogue(tmp_path / "catalogue").forget_raw(OBSID, "blpn64/0")
    assert list(opened.obsfiledb.get_files(NAME)) == [HITS]
    close(opened)


def test_wrong_entries_are_refused_and_change_nothing(tmp_path: Path) -> None:
    """An unknown column, a strange name, and a file that is already somebody else's."""
    catalogue = Catalogue(tmp_path)
    catalogue.register_recording(OBSID, "blpn64/0", FACTS, [tmp_path / "a.0000.raw"])
    before = [(tmp_path / name).read_bytes() for name in (OBSDB, OBSFILEDB)]
    with pytest.raises(Refused, match="no column snr; drop"):
        catalogue.register_hits(OBSID, "blpn64/0", {"snr; drop table obs": 1}, [])
    with pytest.raises(Refused, match="host/number"):
        catalogue.register_hits(OBSID, "blpn64", {}, [])
    with pytest.raises(Refused, match="observation id"):
        catalogue.register_hits("", "blpn64/0", {}, [])
    with pytest.raises(Refused, match="cannot be"):
        catalogue.register_recording(OBSID, "blpn64/1", FACTS, [tmp_path / "new.raw", tmp_path / "a.0000.raw"])
    assert [(tmp_path / name).read_bytes() for name in (OBSDB, OBSFILEDB)] == before


def test_many_writers_lose_nothing(tmp_path: Path) -> None:
    """Analyzers that register at the same time, each making the catalogue, all find their entries in it."""
    errors: list[Exception] = []
    together = threading.Barrier(6)

    def write(number: int) -> None:
        together.wait()
        try:
            for part in range(5):
                Catalogue(tmp_path).register_hits(
                    f"obs{part}", f"blpn{number}/0", FACTS, [tmp_path / f"{number}.{part}"]
                )
        except Exception as error:  # noqa: BLE001 - whatever it is, the test must see it
            errors.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    for database, table in ((OBSDB, "obs"), (OBSFILEDB, "files")):
        connection = sqlite3.connect(tmp_path / database)
        assert connection.execute(f"select count(*) from {table}").fetchone() == (30,)
        connection.close()


def test_a_locked_catalogue_is_to_be_tried_again(tmp_path: Path) -> None:
    """A writer that holds the database costs a Retry, not an entry."""
    catalogue = Catalogue(tmp_path, timeout_s=0.05)
    holder = sqlite3.connect(tmp_path / OBSDB, isolation_level=None)
    holder.execute("begin immediate")
    with pytest.raises(Retry, match="another writer"):
        catalogue.register_hits(OBSID, "blpn64/0", FACTS, [])
    holder.execute("rollback")
    holder.close()
    assert catalogue.register_hits(OBSID, "blpn64/0", FACTS, []) == NAME
