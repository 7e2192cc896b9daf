"""What a plan says is what is known: of files without a catalogue, with one, and of deletions by their rules."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from socs_bl.cli.dataflow import EXIT_NOT_READY
from socs_bl.cli.main import main
from socs_bl.dataflow import check, readiness
from socs_bl.dataflow.catalogue import Catalogue
from socs_bl.dataflow.changes import Change
from socs_bl.dataflow.check import load_pipeline
from socs_bl.dataflow.config import SshStore
from socs_bl.dataflow.model import CopyState, Digest, FileName, JobState, Seen
from socs_bl.dataflow.pipeline import Pipeline
from socs_bl.dataflow.planning import done_stages, files_below, held_of, plan_file
from socs_bl.dataflow.retention import decide
from socs_bl.dataflow.stages import Retention
from tests.dataflow.borealis import OFFERED, raw, stage, write
from tests.harness.sshd import sshd

RAW = "20240305.1400.00.sas.a.rawacf"
PACKED = RAW + ".bz2"
ONE = Digest("xxh3_128", "1" * 32)
Output = pytest.CaptureFixture[str]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The pipeline of the site with its stores below `tmp_path`, without the campus; its file."""
    config = raw()
    config["catalogue"] = str(tmp_path / "catalogue.sqlite")
    config["stores"].pop("campus")
    for name in ("radar", "nas"):
        config["stores"][name]["path"] = str(tmp_path / name)
        (tmp_path / name).mkdir()
    (tmp_path / "radar" / "conversion_failure").mkdir()
    for target in config["targets"].values():
        target["store"] = "nas"
    stage(config, "plots_to_campus").update(to="nas")
    monkeypatch.setattr(check, "installed", lambda: OFFERED)
    return write(tmp_path / "site.yaml", config)


@pytest.fixture
def pipeline(site: Path) -> Pipeline:
    """As it is read."""
    return load_pipeline(site)


@pytest.fixture
def catalogue(pipeline: Pipeline) -> Iterator[Catalogue]:
    """Its catalogue."""
    with contextlib.closing(Catalogue(pipeline.config.catalogue)) as opened:
        yield opened


def lay(pipeline: Pipeline, store: str, path: str, text: str = "x") -> Path:
    """Lay a file into a store."""
    place = pipeline.config.stores[store].path / path
    place.parent.mkdir(exist_ok=True)
    place.write_text(text)
    return place


def entered(catalogue: Catalogue, pipeline: Pipeline, seen: Seen) -> int:
    """Enter a file and its copy."""

    def work(change: Change) -> int:
        parsed = pipeline.parse(seen.path.rpartition("/")[2])
        assert parsed is not None
        file = change.add_file(parsed[1], parsed[0], seen.size)
        change.set_digest(file, ONE)
        change.see(file, seen)
        return file

    return catalogue.write(work).result()


def planned(capsys: Output, *words: str) -> list[Any]:
    """What ``plan`` prints as JSON."""
    assert main([*words, "--json"]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_files_are_planned_and_nothing_is_done(site: Path, pipeline: Pipeline, capsys: Output) -> None:
    """Every file of every store, with what comes next and why; what fits no pattern is said; no file is made or touched."""
    lay(pipeline, "radar", f"20240305/{RAW}")
    lay(pipeline, "radar", "20240305/notes of a day.txt")
    before = sorted((path, path.lstat().st_mtime_ns) for path in site.parent.rglob("*"))
    files = planned(capsys, "dataflow", "plan", str(site))
    assert [file["path"] for file in files] == [f"20240305/{RAW}", "20240305/notes of a day.txt"]
    assert "a newer one of the same radar, type, slice is there or it is quiet for 300 s" in files[0]["state"]
    assert {step["stage"]: step["standing"] for step in files[0]["steps"]}["intake"] == "next"
    assert files[1]["state"] == "is left alone: its name fits no pattern"
    assert planned(capsys, "plan", "--pipeline", str(site), str(site.parent / "radar")) == files
    assert main(["dataflow", "plan", str(site)]) == 0
    said = capsys.readouterr().out
    assert "next" in said and "run borealis_name" in said and "does not apply" not in said
    assert sorted((path, path.lstat().st_mtime_ns) for path in site.parent.rglob("*")) == before


def test_the_catalogue_says_what_is_done(site: Path, pipeline: Pipeline, catalogue: Catalogue, capsys: Output) -> None:
    """Ended jobs and what inspections found decide; the running agent is not held up by a plan; a change since is seen."""
    place = lay(pipeline, "nas", f"rawacf/{PACKED}")
    (seen,) = files_below(pipeline, place)
    file = entered(catalogue, pipeline, seen)
    catalogue.write(lambda change: change.learn(file, {"cp": 151})).result()
    (found,) = planned(capsys, "dataflow", "plan", str(site), str(place))
    steps = {step["stage"]: step for step in found["steps"]}
    assert (found["state"], steps["share"]["standing"], steps["share"]["priority"]) == ("is present", "next", 10)
    catalogue.write(lambda change: change.add_job("share", file, "", "archive", state=JobState.DONE)).result()
    place.write_text("changed")
    (found,) = planned(capsys, "dataflow", "plan", str(site), str(place))
    assert found["state"] == "was present and has changed since"
    assert {step["stage"]: step["standing"] for step in found["steps"]}["share"] == "done"


def test_a_deletion_is_planned_by_its_rule(pipeline: Pipeline, catalogue: Catalogue) -> None:
    """It is next when the copies are there and everything else is done; what is missing is said; the replaced file needs
    copies of what replaced it."""
    (raw_one,) = files_below(pipeline, lay(pipeline, "radar", RAW))
    (packed,) = files_below(pipeline, lay(pipeline, "radar", PACKED))
    files = [entered(catalogue, pipeline, one) for one in (raw_one, packed)]

    def step(seen: Seen, name: str) -> tuple[str, str]:
        with catalogue.read() as view:
            steps = plan_file(pipeline, seen, view, 2 * 10**18).steps
        found = next(step for step in steps if step.stage == name)
        return found.standing, found.reason

    assert step(packed, "keep") == (
        "waits",
        "stage intake is not done; stage verify is not done; stage to_nas is not done",
    )
    for file, stages in zip(files, (("intake", "verify", "pack"), ("intake", "verify", "to_nas")), strict=True):
        for name in stages:
            catalogue.write(lambda change, n=name, f=file: change.add_job(n, f, "", state=JobState.DONE)).result()
    assert step(packed, "keep") == ("waits", "0 verified copies of 2 elsewhere")
    assert step(raw_one, "keep_raw") == ("waits", "nothing has replaced it")

    def verify(change: Change) -> None:
        parsed = pipeline.parse(PACKED)
        assert parsed is not None
        change.add_file(parsed[1], parsed[0], packed.size, parent=files[0], made_by="pack")
        change.add_file(FileName("a picture", {}), "plot", 1, parent=files[0], made_by="plots")  # replaces nothing
        for place in ("rawacf", "backup"):
            copy = change.see(files[1], Seen("nas", f"{place}/{PACKED}", packed.size, 1))
            change.compare(copy, ONE, 2 * 10**18)

    catalogue.write(verify).result()
    assert step(packed, "keep") == ("next", f"2 verified copies elsewhere: nas:backup/{PACKED}, nas:rawacf/{PACKED}")
    assert step(raw_one, "keep_raw")[1].startswith(f"replaced by {PACKED}, of which there is: 2")
    catalogue.write(
        lambda change: change.mark(change.copies(files[1])[1], CopyState.CORRUPT, "a bit fell over")
    ).result()
    assert "is corrupt: a bit fell over" in step(packed, "keep")[1]


def test_a_rule_is_asked_of_its_own_files_only(pipeline: Pipeline, catalogue: Catalogue) -> None:
    """A file that the rule's condition leaves out, or whose name fits no pattern any more, stays whatever copies it has."""
    rule = pipeline.stages["keep_iq"]
    assert isinstance(rule, Retention)
    (seen,) = files_below(pipeline, lay(pipeline, "nas", PACKED))
    entered(catalogue, pipeline, seen)
    odd = Seen("nas", "old.name", 1, 1)
    catalogue.write(lambda change: change.see(change.add_file(FileName("old.name", {}), "data", 1), odd)).result()
    with catalogue.read() as view:
        for name, path, says in ((PACKED, PACKED, "does not hold"), ("old.name", "old.name", "fits no pattern")):
            file, copy = view.file(name), view.copy_at("nas", path)
            assert file is not None and copy is not None
            decision = decide(rule, held_of(pipeline, view, rule, file, copy), 2 * 10**18)
            assert not decision.delete and says in decision.reason


def test_when_a_stage_need_not_be_waited_for(pipeline: Pipeline, catalogue: Catalogue) -> None:
    """A distribution when its required targets have the file; a derivation that may fail also when it has failed."""
    (seen,) = files_below(pipeline, lay(pipeline, "nas", PACKED))
    file = entered(catalogue, pipeline, seen)

    def done(*jobs: tuple[str, str, JobState]) -> set[str]:
        def work(change: Change) -> None:
            for name, target, state in jobs:
                change.add_job(name, file, "", target, state=state)

        catalogue.write(work).result()
        with catalogue.read() as view:
            return set(done_stages(pipeline, view.jobs(file)))

    assert done(("share", "vt", JobState.DONE)) == set()
    assert done(("share", "archive", JobState.RETRY)) == set()
    assert done(("plots", "", JobState.BAD), ("pack", "", JobState.BAD), ("gone", "", JobState.DONE)) == {"plots"}
    with catalogue.read() as view:
        number = next(job.id for job in view.jobs(file) if job.target == "archive")
    for state in (JobState.READY, JobState.RUNNING, JobState.DONE):
        catalogue.write(lambda change, state=state: change.put_job(number, state)).result()
    assert done() == {"share", "plots"}


def test_a_path_that_is_nowhere_is_a_sentence(site: Path, capsys: Output) -> None:
    """A path outside of the stores, or that is not there, is refused with what there is."""
    assert main(["dataflow", "plan", str(site), "/etc/passwd"]) == 1
    assert "is in no store of this host; there are: radar" in capsys.readouterr().err
    assert main(["dataflow", "plan", str(site), str(site.parent / "nas" / "x")]) == 1
    assert "No such file" in capsys.readouterr().err
    assert main(["plan"]) == 1
    assert "--pipeline FILE" in capsys.readouterr().err


# -- whether the world is as the pipeline wants it


def test_a_ready_world_is_said(site: Path, capsys: Output) -> None:
    """All was looked at and is well; nothing was made."""
    before = sorted(site.parent.rglob("*"))
    assert main(["dataflow", "check", str(site)]) == 0
    said = capsys.readouterr().out
    assert "nothing is wrong" in said and "intake, verify, pack" in said and "ok  stores.radar.quarantine" in said
    assert sorted(site.parent.rglob("*")) == before


def test_what_is_missing_is_said(site: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    """A quarantine that is a file, a store that is not there, a catalogue on a network disk: each with what to do."""
    (site.parent / "radar" / "conversion_failure").rmdir()
    (site.parent / "radar" / "conversion_failure").write_text("the first bad file took its name")
    (site.parent / "nas").rmdir()
    monkeypatch.setattr(readiness, "NETWORK", {readiness._file_system(site.parent)})
    assert main(["dataflow", "check", str(site)]) == EXIT_NOT_READY
    said = capsys.readouterr().out
    assert "conversion_failure is no directory" in said and "nas is not there; make the directory" in said
    assert "put it on a local disk" in said


def test_a_wrong_group_is_said(site: Path, pipeline: Pipeline, tmp_path: Path, capsys: Output) -> None:
    """A group that copies are given and that this host has not."""
    config = json.loads(json.dumps(raw()))
    config.update(catalogue=str(tmp_path / "c.sqlite"))
    config["stores"] = {name: {"kind": "local", "path": str(tmp_path / name)} for name in ("radar", "nas", "campus")}
    for name in ("intake", "verify"):
        stage(config, name).update(on_bad="hold")
    stage(config, "to_nas").update(group="nosuchgroup")
    assert main(["dataflow", "check", str(write(tmp_path / "group.yaml", config))]) == EXIT_NOT_READY
    assert "groupadd nosuchgroup" in capsys.readouterr().out


def test_another_host_is_tried(tmp_path: Path) -> None:
    """A host that lets us in is well; a root that is not there, another host key and a closed port are told apart."""
    with sshd(tmp_path / "sshd") as server:
        values = {
            "kind": "ssh", "host": f"{server.user}@127.0.0.1", "port": server.port, "identity": server.identity,
            "known_hosts": server.known_hosts, "path": tmp_path,
        }  # fmt: skip

        def look(**changed: object) -> tuple[bool, str]:
            found = readiness._host("stores.campus", SshStore.model_validate({**values, **changed}))
            return found.good, found.text

        assert look() == (True, f"{server.user}@127.0.0.1:{tmp_path}")
        assert "is no directory that this user may write" in look(path=tmp_path / "absent")[1]
        server.change_host_key()
        assert "host key" in look()[1]
    assert "unreachable" in look()[1]


def test_the_longest_mount_names_the_file_system() -> None:
    """The kind of disk is that of the nearest mount above."""
    assert readiness._file_system(Path("/proc/self")) == "proc"
