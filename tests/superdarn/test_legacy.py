"""Flags and summaries of the shell scripts: what their readers find in ours."""

from __future__ import annotations

import datetime
import os
from pathlib import Path
from typing import Any

import inotify_simple
import pytest

from socs_bl.core.errors import Refused
from socs_bl.superdarn import legacy
from socs_bl.superdarn.legacy import Event, Line, Run, Script, Sender
from tests.superdarn import dashboard

START = datetime.datetime(2024, 3, 5, 16, 0, 9, tzinfo=datetime.UTC)
FILE = "/data/borealis_data/20240305/20240305.1400.00.sas.a.rawacf.bz2"
OLD = "/data/borealis_data/20240301/20240301.1400.00.sas.a.rawacf.bz2"


def _run(script: Script, *events: Event, **more: Any) -> Run:
    return Run(
        script=script,
        program=f"/home/radar/data_flow/borealis/{script}",
        host="sasbore206",
        radar="sas",
        started=START,
        ended=START + datetime.timedelta(seconds=71),
        versions=(("data_flow", "main", "e19dd42 2026-08-06 10:00:00 -0600"),),
        events=events,
        **more,
    )


def test_golden_summary() -> None:
    """The text of a run, to the letter."""
    run = _run(
        Script.TO_NAS,
        Event(Line.TRANSFERRED, FILE),
        Event(Line.TRANSFER_FAILED, OLD),
        source="/data/borealis_data",
        destination="/borealis_nfs/borealis_data",
    )
    assert legacy.summary(run) == (
        "################################################################################\n"
        "\n"
        "Executing /home/radar/data_flow/borealis/rsync_to_nas on sasbore206 for sas\n"
        "20240305 16:00:09 UTC\n"
        "data_flow: On branch main, last commit: \t\te19dd42 2026-08-06 10:00:00 -0600\n"
        "Transferring from: /data/borealis_data\n"
        "Transferring to NAS: /borealis_nfs/borealis_data\n"
        "\n"
        f"Successfully transferred: {FILE}\n"
        f"Transfer failed: {OLD}\n"
        "\n"
        "Finished rsync_to_nas. End time: 20240305 16:01:20 UTC\n"
        "\n"
    )


def test_dashboard_reads_transfers(tmp_path: Path) -> None:
    """Good, failed and old files, runs with nothing to do, and the head of the last run."""
    where = {"source": "/borealis_nfs/borealis_data", "destination": "mrcopy@198.51.100.7:/sddata/sas_data/"}
    legacy.append_summary(tmp_path, _run(Script.TO_CAMPUS, **where))
    events = (Event(Line.TRANSFERRED, FILE), Event(Line.TRANSFERRED, OLD), Event(Line.TRANSFER_FAILED, OLD))
    path = legacy.append_summary(tmp_path, _run(Script.TO_CAMPUS, *events, **where))
    assert path == tmp_path / "rsync_to_campus/summary/2024/03/20240305.rsync_to_campus_summary.log"
    assert dashboard.overview(path) == {
        "host": "sasbore206",
        "source": "/borealis_nfs/borealis_data",
        "destination": "198.51.100.7",
        "directory": "/sddata/sas_data/",
    }
    stats = dashboard.statistics(path)
    assert (stats["good"], stats["failed"], stats["old"]) == ([FILE, OLD], [OLD], [OLD])
    assert (stats["runs"], stats["empty_runs"]) == (2, 1)


def test_dashboard_reads_distribution(tmp_path: Path) -> None:
    """What was distributed, what not, and the staging directories; a file for each radar."""
    path = legacy.append_summary(
        tmp_path,
        _run(
            Script.DISTRIBUTE,
            Event(Line.DISTRIBUTED, FILE),
            Event(Line.NOT_DISTRIBUTED, FILE, -3800),
            Event(Line.DMAP_FAILED, OLD),
            Event(Line.BZIP2_FAILED, OLD),
            source="/sddata/sas_data",
            destination="/data/borealis_site_data",
            mirror="/data/holding/globus",
            institutions=("/home/bas/outgoing/sas", "/home/vtsd/outgoing/sas"),
        ),
    )
    assert path.name == "sas.20240305.distribute_borealis_data_summary.log"
    told = dashboard.overview(path)
    assert (told["source"], told["NAS"], told["Mirror"], told["institutions"]) == (
        "/sddata/sas_data",
        "/data/borealis_site_data",
        "/data/holding/globus",
        ["/home/bas/outgoing/sas", "/home/vtsd/outgoing/sas"],
    )
    stats = dashboard.statistics(path)
    assert (stats["good"], stats["failed"]) == ([FILE], [OLD, OLD])
    assert "File with CPID -3800 will not be distributed: " + FILE in path.read_text()


@pytest.mark.parametrize(
    ("script", "failure"), [(Script.RESTRUCTURE, Line.RESTRUCTURE_FAILED), (Script.CONVERT, Line.CONVERT_FAILED)]
)
def test_dashboard_reads_conversions(tmp_path: Path, script: Script, failure: Line) -> None:
    """A failed conversion is shown, once, which it never was; records that were removed too."""
    events = (Event(Line.RECORDS_REMOVED, FILE), Event(Line.CONVERTED, FILE), Event(failure, OLD))
    path = legacy.append_summary(tmp_path, _run(script, *events, source="/borealis_nfs/borealis_data"))
    stats = dashboard.statistics(path, converting=True)
    assert (stats["good"], stats["failed"], stats["removed"]) == ([FILE], [OLD], [FILE])


@pytest.mark.parametrize("script", list(Script))
def test_every_script_has_its_run(tmp_path: Path, script: Script) -> None:
    """A run that found nothing is one, whatever the script, and ends as the others do."""
    path = legacy.append_summary(tmp_path, _run(script, destination="a@b:/c"))
    assert dashboard.statistics(path)["empty_runs"] == 1
    assert path.read_text().endswith(f"\nFinished {script}. End time: 20240305 16:01:20 UTC\n\n")


def test_strange_names_stay_on_their_line(tmp_path: Path) -> None:
    """A name with a space or a line's end in it is one word on one line."""
    event = Event(Line.TRANSFER_FAILED, "/data/a b\nTransfer failed: x")
    path = legacy.append_summary(tmp_path, _run(Script.TO_NAS, event, destination="/x"))
    stats = dashboard.statistics(path)
    assert (stats["good"], stats["failed"]) == ([], ["/data/a?b?Transfer?failed:?x"])


def test_summaries_are_utc(tmp_path: Path) -> None:
    """A run shortly before midnight in another zone goes to the day and month that its times say."""
    local = datetime.datetime(2024, 2, 29, 23, tzinfo=datetime.timezone(datetime.timedelta(hours=-6)))
    run = Run(script=Script.PLOT, program="p", host="h", radar="sas", started=local, ended=local)
    assert (
        legacy.summary_path(tmp_path, run)
        == tmp_path / "plot_antennas_iq/summary/2024/03/20240301.plot_antennas_iq_summary.log"
    )
    assert "20240301 05:00:00 UTC" in legacy.summary(run)


def test_flags() -> None:
    """The names that each daemon looks for, and back."""
    assert legacy.flag_name(Sender.BOREALIS, "sas") == ".borealis_flag"
    assert legacy.flag_name(Sender.SITE, "sas") == ".site-linux_flag_sas"
    assert legacy.flag_name(Sender.CAMPUS, "inv") == ".campus_dataflow_flag_inv"
    assert legacy.parse_flag(".borealis_flag") == (Sender.BOREALIS, "")
    assert legacy.parse_flag(".site-linux_flag_rkn") == (Sender.SITE, "rkn")
    for name in (".borealis_flag_sas", ".site-linux_flag_", ".site-linux_flag_../", "x", ".site-linux_flag_sas\n"):
        with pytest.raises(Refused):
            legacy.parse_flag(name)
    with pytest.raises(Refused):
        legacy.flag_name(Sender.SITE, "../x")


def test_daemon_sees_each_flag(tmp_path: Path) -> None:
    """A flag arrives by a rename, the only thing that the daemons watch for; two in one second are two."""
    with inotify_simple.INotify() as watch:
        watch.add_watch(tmp_path, inotify_simple.flags.MOVED_TO)
        for _ in range(2):
            legacy.raise_flag(tmp_path, Sender.SITE, "sas")
            assert [event.name for event in watch.read(timeout=10_000)] == [".site-linux_flag_sas"]


def test_flags_are_taken_down(tmp_path: Path) -> None:
    """Flags are honoured once; other files and half-written ones are left alone."""
    legacy.raise_flag(tmp_path, Sender.SITE, "sas")
    legacy.raise_flag(tmp_path, Sender.BOREALIS, "sas")
    (tmp_path / "README.md").touch()
    (tmp_path / "..site-linux_flag_sas.1-1.part").touch()
    assert legacy.take_flags(tmp_path) == ((Sender.BOREALIS, ""), (Sender.SITE, "sas"))
    assert legacy.take_flags(tmp_path) == ()
    assert sorted(os.listdir(tmp_path)) == ["..site-linux_flag_sas.1-1.part", "README.md"]
