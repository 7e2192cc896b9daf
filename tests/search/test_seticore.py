"""seticore as a subprocess: what its exit says, what becomes of its products, and that nothing of it is left."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from socs_bl.core.config import check
from socs_bl.search.analyzer_config import AnalyzerConfig, SeticoreConfig
from socs_bl.search.ending import SearchFailed
from socs_bl.search.engines import engine_of
from socs_bl.search.model import Outcome
from socs_bl.search.products import recordings_under
from socs_bl.search.seticore import classified, command, search
from socs_bl.services.process import Identity, identify, wait_gone
from tests.harness import seticore as simulator

RECIPE = "MeerKAT-array_1-test.bfr5"


class Bench:
    """One recording, a directory of recipes, and the simulator."""

    def __init__(self, directory: Path, voltages: Callable[..., Any], write_raw: Callable[..., Path]) -> None:
        self.raw = directory / "raw"
        self.recipes = directory / "recipes"
        self.output = directory / "out"
        for place in (self.raw, self.recipes):
            place.mkdir()
        write_raw(self.raw / "guppi_a.0000.raw", voltages([], 1, heaps=10))
        self.steps: list[tuple[str, int, int]] = []

    def recipe(self, behaviour: str = "", **contents: int) -> None:
        recipe = {"nants": 2, "hits": 2, "stamps": 1, "behaviour": behaviour, **contents}
        (self.recipes / RECIPE).write_text(json.dumps(recipe), encoding="utf-8")

    def config(self, **changes: object) -> SeticoreConfig:
        values = {"program": simulator.__file__, "recipe_dir": str(self.recipes), "num_bands": 4, "min_duration_s": 1.0}
        return check({**values, **changes}, SeticoreConfig, "test")

    def search(self, **changes: object) -> dict[str, Any]:
        def progress(*step: Any) -> None:
            self.steps.append(step)

        return search(recordings_under(self.raw), self.output, self.config(**changes), progress)

    def failure(self, **changes: object) -> SearchFailed:
        """How a search fails; only its log may be left."""
        with pytest.raises(SearchFailed) as failed:
            self.search(**changes)
        assert {path.name for path in self.output.iterdir()} <= {"seticore.log"}
        return failed.value


@pytest.fixture
def bench(tmp_path: Path, voltages: Callable[..., Any], write_raw: Callable[..., Path]) -> Bench:
    """A bench of this test's own."""
    return Bench(tmp_path, voltages, write_raw)


def test_the_command_line_is_the_documented_one(bench: Bench) -> None:
    """The arguments of the original analyzer's call, with its values by default."""
    config = SeticoreConfig(recipe_dir="/home/obs/bfr5", h5_dir="beams", more=("--sti", "8"))
    words = " ".join(command("seticore", Path("/in"), Path("/out"), config))
    assert words == (
        "seticore --input /in --output /out --max_drift 10 --snr 6 --num_bands 16 --fine_channels 8388608"
        " --telescope_id 64 --recipe_dir /home/obs/bfr5 --h5_dir /out/beams --sti 8"
    )


def test_a_good_search(bench: Bench) -> None:
    """Hits and stamps are counted, progress is told band by band, products stand beside each other and nothing else."""
    bench.recipe()
    result = bench.search(h5_dir="beams")
    assert [result[key] for key in ("reason", "text", "hits", "stamps")] == ["searched", "", 2, 1]
    assert result["obsid"] == "MeerKAT:array_1:test"
    names = {str(Path(name).relative_to(bench.output)) for name in result["products"]}
    assert names == {"guppi_a.hits", "guppi_a.stamps", "beams/guppi_a.band0.beam00.h5"}
    assert {path.name for path in bench.output.iterdir()} == {"guppi_a.hits", "guppi_a.stamps", "beams", "seticore.log"}
    assert bench.steps[0] == ("seticore", 0, 4) and bench.steps[-1] == ("seticore", 4, 4)
    (recorded,) = result["recordings"]
    assert recorded["hit_count"] == 2 and recorded["duration_s"] == pytest.approx(10 * 256 / 1000.0)
    assert (recorded["low_hz"], recorded["high_hz"]) == pytest.approx((1400e6 - 1000, 1400e6 + 1000))


def test_no_hits_are_a_result(bench: Bench) -> None:
    """An empty hit list is one."""
    bench.recipe(hits=0, stamps=0)
    result = bench.search()
    assert (result["reason"], result["hits"], result["stamps"]) == ("searched", 0, 0)
    assert [Path(name).name for name in result["products"]] == ["guppi_a.hits", "guppi_a.stamps"]


def test_too_short_by_measure_or_by_its_own_word(bench: Bench) -> None:
    """Too little is not even given to it; what it calls too short itself has no products, and is no failure."""
    assert bench.search(min_duration_s=150.0)["reason"] == "too_short" and bench.steps == []
    bench.recipe("short")
    result = bench.search()
    assert (result["reason"], result["products"]) == ("too_short", [])


@pytest.mark.parametrize(
    ("behaviour", "outcome", "words"),
    [
        ("cuda", Outcome.DEVICE, "cuda error 2"),
        ("exit 70", Outcome.CRASHED, "exit status 70"),
        ("segv", Outcome.KILLED, "SIGSEGV"),
        ("exit 139", Outcome.KILLED, "SIGSEGV"),
        ("abort", Outcome.KILLED, "SIGABRT"),
        ("garbage", Outcome.GARBAGE, "no sequence of Cap'n Proto messages"),
        ("cut", Outcome.GARBAGE, "it is cut off"),
        ("no products", Outcome.GARBAGE, "there is no guppi_a.hits"),
    ],
)
def test_each_end_has_its_own_name(bench: Bench, behaviour: str, outcome: Outcome, words: str) -> None:
    """Statuses, signals (also told by a shell) and products that cannot be read are told apart, in words."""
    bench.recipe(behaviour)
    failure = bench.failure()
    assert failure.outcome is outcome and words in str(failure)


def test_what_it_declines(bench: Bench) -> None:
    """No recipe, or one for another number of antennas: exit 1, with its own words; a wrong setup is not its fault."""
    failure = bench.failure()
    assert failure.outcome is Outcome.DECLINED and "could not open" in str(failure)
    bench.recipe(nants=64)
    failure = bench.failure()
    assert failure.outcome is Outcome.DECLINED and "nants = 64" in str(failure)
    for changes in ({"program": "/no/such/seticore"}, {"recipe_dir": ""}):
        assert bench.failure(**changes).outcome is Outcome.SETTINGS


@pytest.mark.parametrize("behaviour", ["hang", "deaf"])
def test_a_search_that_hangs_is_ended(bench: Bench, behaviour: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """After its deadline it is ended, also when it does not listen."""
    monkeypatch.setattr("socs_bl.search.seticore.GRACE_S", 0.2)
    bench.recipe(behaviour)
    failure = bench.failure(deadline_s=1.0)
    assert failure.outcome is Outcome.OVERDUE and "beamforming band 3" in str(failure)


def test_much_output_is_kept_in_part(bench: Bench) -> None:
    """Two megabytes of words cost a log of the size that is allowed."""
    bench.recipe("flood")
    assert bench.search(log_bytes=5000)["hits"] == 2
    assert (bench.output / "seticore.log").stat().st_size == 5000


def test_left_over_directories_are_removed(bench: Bench) -> None:
    """What a search that was killed has left is gone after the next."""
    (bench.output / ".seticore-123").mkdir(parents=True)
    (bench.output / ".seticore-123" / "guppi_a.hits.tmp").write_bytes(b"half")
    bench.recipe()
    bench.search()
    assert not list(bench.output.glob(".seticore*"))


def test_statuses_nobody_has_heard_of() -> None:
    """Every status means something."""
    assert classified(-64)[0] is Outcome.KILLED and classified(255) == (Outcome.CRASHED, "exit status 255")


def test_it_ends_with_the_search(bench: Bench) -> None:
    """Killing the search ends seticore too: nothing stays on the device."""
    bench.recipe("deaf")
    config = AnalyzerConfig(engine="seticore", seticore=bench.config())
    how = engine_of(config).arguments(None, 7.5)
    argv = [sys.executable, "-m", "socs_bl.search", "--input", str(bench.raw), "--output", str(bench.output), *how]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert json.loads(child.stdout.readline())["done"] == 0
        children = Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text(encoding="ascii").split()
        seticore = [found for pid in children if isinstance(found := identify(int(pid)), Identity)]
        assert len(seticore) == 1
        assert "--snr\x007.5" in Path(f"/proc/{seticore[0].pid}/cmdline").read_text(encoding="utf-8")
        child.kill()
        assert wait_gone(seticore, 20.0) == []
