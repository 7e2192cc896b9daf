"""Ledgers: byte for byte, and checked by the same program that the institutions use."""

from __future__ import annotations

import bz2
import datetime
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from socs_bl.core.errors import Refused
from socs_bl.superdarn import ledger
from socs_bl.superdarn.ledger import Blocklist, FailedList, Standing
from tests.harness.programs import need_program

A, B = "20240305.1400.00.sas.a.rawacf.bz2", "20240301.0000.02.mcm.rawacf.bz2"
SHA = "a9993e364706816aba3e25717850c26c9cd0d89d"  # of b"abc"
OTHER = "da39a3ee5e6b4b0d3255bfef95601890afd80709"  # of nothing
TODAY = datetime.date(2024, 3, 5)


def test_month_as_sha1sum_writes_it(tmp_path: Path) -> None:
    """The lines that are added are sha1sum's own, sorted by name, after what was there; sha1sum -c passes on them."""
    program = need_program("sha1sum")
    (tmp_path / A).write_bytes(b"abc")
    (tmp_path / B).write_bytes(b"")
    book = ledger.new_month("202403", TODAY).with_files({A: SHA, B: OTHER})
    wanted = subprocess.run([program, B, A], cwd=tmp_path, check=True, capture_output=True, timeout=60).stdout
    assert book.content == wanted
    (tmp_path / "202403.hashes").write_bytes(book.content)
    subprocess.run(
        [program, "-c", "--strict", "202403.hashes"], cwd=tmp_path, check=True, timeout=60, capture_output=True
    )
    assert ledger.month_path("202403") == "raw/2024/03/202403.hashes"


def test_old_lines_stay(tmp_path: Path) -> None:
    """Order, binary marks, doubled and blank lines of an old book are kept; a last line without end is not joined to the next."""
    old = f"{SHA}  20240309.x\n\n{OTHER} *20240301.y\n{SHA}  20240309.x\n{OTHER}  20240302.z".encode()
    book = ledger.parse_month("202403", old)
    assert book.content == old
    assert book.with_files({}).content == old
    assert book.with_files({A: SHA}).content == old + f"\n{SHA}  {A}\n".encode()


def test_three_ways() -> None:
    """Match, nomatch and new; lines that contradict each other are never a match."""
    book = ledger.parse_month("202403", f"{SHA}  {A}\n{SHA}  {B}\n{OTHER}  {B}\n".encode())
    assert [book.standing(name, SHA) for name in (A, B, "20240399.q")] == [
        Standing.MATCH,
        Standing.NOMATCH,
        Standing.NEW,
    ]
    assert book.standing(A, OTHER) is Standing.NOMATCH
    with pytest.raises(Refused, match="another content"):
        book.with_files({A: OTHER})
    assert book.with_files({A: SHA}) == book


@pytest.mark.parametrize(
    "name", ["20240405.1400.00.sas.a.rawacf.bz2", "202403/../../x", "202403\n", "202403\\x", "202403ä", ""]
)
def test_lines_that_cannot_be(name: str) -> None:
    """Files of another month and names that would break the book are refused."""
    with pytest.raises(Refused):
        ledger.new_month("202403", TODAY).with_files({name: SHA})
    with pytest.raises(Refused):
        ledger.new_month("202403", TODAY).with_files({A: "abc"})


def test_damaged_book() -> None:
    """A book that was cut, or is a page of a web server, is refused with the line, not read as one with fewer files."""
    for content in (f"{SHA}  {A}\n{SHA[:20]}".encode(), b"<html>", f"{SHA} {A}".encode()):
        with pytest.raises(Refused, match=r"202403.hashes line [12]"):
            ledger.parse_month("202403", content)


def test_missing_book() -> None:
    """Only the month that has just begun may have none; an old month's book does not begin anew."""
    assert ledger.new_month("202403", TODAY).content == b""
    for month in ("202402", "202404", "2024", "202413"):
        with pytest.raises(Refused):
            ledger.new_month(month, TODAY)


def test_master(tmp_path: Path) -> None:
    """The master book is sha1sum's of the months' books, sorted, other months kept; a book that changed is found."""
    program = need_program("sha1sum")
    march = ledger.new_month("202403", TODAY).with_files({A: SHA})
    old = f"{OTHER}  ./raw/202402.hashes\n{OTHER}  ./raw/202403.hashes\n{SHA}  ./dat/199309.hashes\n".encode()
    made = ledger.update_master(old, [march])
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw/202403.hashes").write_bytes(march.content)
    line = subprocess.run(
        [program, "./raw/202403.hashes"], cwd=tmp_path, check=True, capture_output=True, timeout=60
    ).stdout
    assert made == f"{SHA}  ./dat/199309.hashes\n{OTHER}  ./raw/202402.hashes\n".encode() + line
    assert ledger.check_master(made, [march]) == ()
    assert ledger.check_master(old, [march]) == ("202403",)


def test_failed_list() -> None:
    """A line for each broken content, once; the reason on one line; an empty list is never stored."""
    old = FailedList(f"{OTHER}  {B} | Failed BZ2 integrity test\n".encode())
    new = old.with_files({B: (OTHER, "again"), A: (SHA, "record 3:\n size  wrong")})
    assert new.content == old.content + f"{SHA}  {A} | record 3: size wrong\n".encode()
    assert new.reason(A, SHA) == "record 3: size wrong"
    assert new.reason(A, OTHER) is None
    assert new.with_files({A: (SHA, "again")}) == new
    with pytest.raises(Refused, match="empty"):
        FailedList(b"\n").with_files({A: (SHA, "x")})


def test_standing() -> None:
    """Blocked before all; then the month's book; then what is broken: a file that is there already stays a match."""
    book = ledger.new_month("202403", TODAY).with_files({A: SHA})
    blocklist = Blocklist({"notes.md": B.encode(), "mcm.txt": f"{B} bad phase\r\nx\n".encode()})
    failed = FailedList(f"{OTHER}  20240302.f | cut\n".encode())

    def ask(name: str, sha1: str, broken: str = "") -> tuple[Standing, str]:
        return ledger.standing(name, sha1, broken, blocklist, failed, book)

    assert ask(B, SHA) == (Standing.BLOCKED, f"{B} is on mcm.txt")
    assert ask(A, SHA, "cut") == (Standing.MATCH, "")
    assert ask(A, OTHER)[0] is Standing.NOMATCH
    assert ask("20240302.f", OTHER) == (Standing.FAILED, "cut")
    assert ask("20240302.f", SHA) == (Standing.NEW, "")
    assert ask("20240302.g", SHA, ledger.FAILED_EMPTY) == (Standing.FAILED, ledger.FAILED_EMPTY)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", ledger.FAILED_BZIP2),
        (b"BZh9", ledger.FAILED_BZIP2),
        (bz2.compress(b""), ledger.FAILED_EMPTY),
        (bz2.compress(b"x" * 1000)[:-4], ledger.FAILED_BZIP2),
        (bz2.compress(b"x"), ""),
    ],
)
def test_faults_in_the_mirrors_words(tmp_path: Path, content: bytes, fault: str) -> None:
    """What bunzip2 -t refuses, and the 14 bytes of an empty stream, which it does not."""
    path = tmp_path / A
    path.write_bytes(content)
    assert ledger.packed_fault(path) == fault
    code = subprocess.run(
        [need_program("bunzip2"), "-t", path], check=False, timeout=60, capture_output=True
    ).returncode
    assert (code == 2) == (fault == ledger.FAILED_BZIP2)


@given(
    st.lists(
        st.tuples(st.text("0123456789abcdef", min_size=40, max_size=40), st.text("abcz.0", min_size=1, max_size=12)),
        max_size=8,
        unique_by=lambda line: line[1],
    )
)
@settings(max_examples=60)
def test_books_grow_and_stay(lines: list[tuple[str, str]]) -> None:
    """In whatever portions files arrive, every line is there once, none changes, and the book reads back to itself."""
    book = ledger.new_month("202403", TODAY)
    for sha1, name in lines:
        before = book.content
        book = book.with_files({f"202403{name}": sha1})
        assert book.content == before + f"{sha1}  202403{name}\n".encode()
    assert ledger.parse_month("202403", book.content) == book
    assert len(book.hashes) == len(lines)
