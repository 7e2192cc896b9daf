"""Pipelines: the good one is accepted; of a wrong one every problem is named with its file, key, value and what is right."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from socs_bl.core.errors import Refused
from socs_bl.core.stage import ENTRY_POINTS
from socs_bl.dataflow.check import load_pipeline
from socs_bl.dataflow.stages import Move, PipelineConfig
from tests.dataflow.borealis import EXAMPLE, OFFERED, raw, stage, write

Change = Callable[[Any], object]


def test_a_sound_pipeline_is_accepted(tmp_path: Path) -> None:
    """Nothing is wrong with the pipeline of a site, and its quantities are what they say."""
    pipeline = load_pipeline(write(tmp_path / "site.yaml", raw()), OFFERED)
    assert pipeline.config.stores["nas"].reserve == 20 << 30
    move = pipeline.stages["plots_to_campus"]
    assert isinstance(move, Move)
    assert [window.limit for window in move.bwlimit] == [1 << 20, 0]
    assert move.bwlimit[0].holds(6 * 3600) and not move.bwlimit[0].holds(22 * 3600)


def _set(name: str, **values: object) -> Change:
    return lambda config: stage(config, name).update(values)


def _delete_when(name: str, **values: object) -> Change:
    return lambda config: stage(config, name)["delete_when"].update(values)


def _block(**values: object) -> Change:
    return lambda config: config["blocks"]["data"].update(values)


def _name_of_data(old: str, new: str) -> Change:
    return lambda config: config["blocks"]["data"].update(name=config["blocks"]["data"]["name"].replace(old, new))


def _add(**values: object) -> Change:
    return lambda config: config["stages"].append(values)


WRONG: dict[str, tuple[Change, str, str]] = {
    # what is wrong: the change, the key that must be named, what must be said
    "unknown key": (lambda c: c.update(colour="red"), "colour", "Extra inputs are not permitted"),
    "unknown kind": (_set("pack", kind="pakc"), "stages.2", "'inspect', 'transform'"),
    "inotify on nfs": (lambda c: c["stores"]["nas"].update(inotify=True), "stores.nas.nfs.inotify", "not permitted"),
    "relative path": (lambda c: c["stores"]["nas"].update(path="data"), "stores.nas", "is not absolute"),
    "host as option": (lambda c: c["stores"]["campus"].update(host="-oProxyCommand=x"), "stores.campus.ssh.host", "match"),
    "size without unit": (lambda c: c["stores"]["nas"].update(reserve="20"), "reserve", "such as 20GiB"),
    "time without unit": (lambda c: c["stores"]["nas"].update(scan=120), "scan", "such as 300s"),
    "rate": (lambda c: c["stores"]["campus"].update(max_connections="many"), "max_connections", "such as 20/min"),
    "backoff": (_set("to_nas", retry={"backoff": "1h..30s"}), "backoff", "shortest time first"),
    "limit": (_set("to_nas", bwlimit="2MiB"), "bwlimit", "such as 2MiB/s"),
    "share": (_delete_when("keep_iq", free_below="115%"), "free_below", "at most 100%"),
    "window": (_set("to_nas", bwlimit=[{"between": "6-22", "limit": "none"}]), "bwlimit.0.between", "match"),
    "condition": (_set("pack", when="type = rawacf"), "stages.2.transform.when", "column 6"),
    "pattern that does not compile": (_block(name="(?P<t0>"), "blocks.data.name", "no regular expression"),
    "pattern without groups": (_block(name="a.*"), "blocks.data.name", "no named group"),
    "directory out of the store": (_set("plots", into="../x"), "stages.4.derive.into", "begins with '.'"),
    "absolute directory": (_set("plots", into="/x"), "stages.4.derive.into", "is empty"),
    "two signs in one": (_block(complete_when={"any": [{"quiet_for": "1m", "closed": True}]}), "complete_when", "exactly one"),
    "last copy unsaid": (_delete_when("keep", verified_copies=0), "stages.8.retention.delete_when", "last_copy: true"),
    "until without below": (_delete_when("keep", free_until="20%"), "stages.8.retention.delete_when", "set free_below"),
    "two of one id": (_set("plots", id="pack"), "stages", "id of 2 stages"),
    "unknown store": (_set("pack", store="radra"), "stages.2 (pack).store", "did you mean 'radar'?"),
    "unknown destination": (_set("to_nas", to="moon"), "stages.3 (to_nas).to", "there are: radar, nas, campus"),
    "unknown stage after": (_set("to_nas", after=["pakc"]), "stages.3 (to_nas).after", "did you mean 'pack'?"),
    "unknown stage of a route": (_set("by_cp", rules=[{"to": ["sharee"]}]), "(by_cp).rules.0.to", "did you mean 'share'?"),
    "unknown target": (_set("share", targets=["vtt", "archive"]), "(share).targets", "did you mean 'vt'?"),
    "required and no target": (_set("share", require=["bas"]), "(share).require", "target of this stage"),
    "unknown store of a rule": (_delete_when("keep", on=["nass"]), "(keep).delete_when.on", "did you mean 'nas'?"),
    "store of a target": (lambda c: c["targets"]["vt"].update(store="x"), "targets.vt.store", "there are: radar"),
    "unknown installed stage": (_set("pack", run="bzip"), "(pack).run", "did you mean 'bzip2'?"),
    "stage that cannot be imported": (_set("pack", run="needs_darn"), "(pack).run", "install what it needs"),
    "stage of another kind": (_set("pack", run="check_dmap"), "(pack).kind", "write kind: inspect"),
    "unknown parameter": (_set("plots", parameters={"antenna": 1}), "(plots).parameters.antenna", "plot_antennas_iq has: antennas"),
    "wrong parameter": (_set("plots", parameters={"antennas": "x"}), "(plots).parameters.antennas", "found 'x'"),
    "time of no group": (_block(time={"field": "t1", "format": "%Y"}), "blocks.data.time.field", "there are: t0, radar"),
    "time of another form": (_block(time={"field": "t0", "format": "%Y"}), "blocks.data.time.format", "does not admit"),
    "newer without time": (lambda c: c["blocks"]["data"].pop("time"), "blocks.data.complete_when", "set blocks.data.time"),
    "same of no group": (_block(together=["radr"]), "blocks.data.together", "did you mean 'radar'?"),
    "group with a taken name": (_name_of_data("<ext>", "<size>"), "blocks.data.name", "the group 'size'"),
    "metadata with a taken name": (_block(metadata={"radar": "text"}), ".metadata.radar", "call it otherwise"),
    "quarantine nowhere": (lambda c: c["stores"]["radar"].pop("quarantine"), "(intake)", "stores.radar.quarantine"),
    "work on another host": (_set("plots", store="campus"), "(plots)", "let the agent of that host"),
    "lines after else": (_set("by_cp", rules=[{"to": []}, {"if": "cp == 1", "to": ["share"]}]), "(by_cp).rules.0", "never reached"),
    "window after all": (_set("to_nas", bwlimit=[{"limit": "none"}, {"limit": "1MB/s"}]), "(to_nas).bwlimit.0", "never reached"),
    "one directory twice": (_set("to_nas", into=["a", "a"]), "(to_nas).into", "which is one copy"),
    "moved to where it is": (_set("to_nas", to="radar", into=""), "(to_nas).into", "needs a directory"),
    "circle of stages": (_set("intake", after=["to_nas"]), "stages", "in a circle"),
    "circle of moves": (_add(id="x", kind="move", **{"from": "nas", "to": "radar"}, into="x"), "stages", "radar -> nas -> radar"),
    "unknown name": (_set("pack", when="tpye == rawacf"), "(pack).when", "did you mean 'type'?"),
    "value that never is": (_set("pack", when="type == rawcaf"), "(pack).when, column 1", "rawacf|antennas_iq"),
    "number for a text": (_set("pack", when="slice == 0"), "(pack).when", "write '0' in quotes"),
    "text for a number": (_set("pack", when="cp == normal"), "(pack).when", "write a number"),
    "unknown store in a condition": (_set("pack", when="store == disk"), "(pack).when", "there are: radar"),
    "unknown field of a directory": (_set("plots", into="{radra}"), "(plots).into", "did you mean 'radar'?"),
    "field that some lack": (_set("plots_to_campus", into="{slice}"), "(plots_to_campus).into", "block 'plot' have not"),
    "store that nothing feeds": (lambda c: c["stores"]["radar"].update(scan=0), "(intake)", "no file comes to store 'radar'"),
    "route to another store": (_set("share", **{"from": "radar"}), "(share)", "let both name one store"),
    "target that nobody uses": (_set("share", targets=["archive"]), "targets.vt", "take it out"),
    "stage for no file": (_set("plots", when="type == rawacf and type == antennas_iq"), "(plots)", "no file could ever come"),
    "stage behind a replacement": (_set("to_nas", when="type == rawacf and not ext and not zip"), "(to_nas)", "no file could"),
    "copies nobody makes": (_delete_when("keep", verified_copies=5), "(keep).delete_when.verified_copies", "makes"),
    "copies that are taken away": (_delete_when("keep_iq", verified_copies=1, last_copy=False), "verified_copies", "makes none"),
    "copies that are delivered": (
        _add(id="x", kind="retention", store="nas", when="zip and cp == 151", delete_when={"verified_copies": 2}),
        "(x).delete_when.verified_copies", "makes 1 (share: campus)",
    ),
    "copies in another store": (_delete_when("keep", on=["campus"]), "(keep).delete_when.verified_copies", "makes none"),
    "rule for too many": (_set("keep", when="block in (data, plot)"), "(keep).delete_when.verified_copies", "exclude it"),
    "nothing replaces": (_set("pack", replaces=False), "(keep_raw).delete_when.replaced", "no transform replaces"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_named(what: str, tmp_path: Path) -> None:
    """The refusal names the file, the key and what would be right, before anything starts."""
    change, key, says = WRONG[what]
    config = raw()
    change(config)
    path = write(tmp_path / "site.yaml", config)
    with pytest.raises(Refused) as refusal:
        load_pipeline(path, OFFERED)
    lines = str(refusal.value).splitlines()
    assert all(line.startswith(f"{path}: ") for line in lines)
    assert [line for line in lines if key in line and says in line], refusal.value


def test_copies_are_counted_further_on(tmp_path: Path) -> None:
    """Two in the next store and one behind it are three."""
    config = raw()
    stage(config, "keep").update(when="type == rawacf and zip and cp == 151", delete_when={"verified_copies": 3})
    load_pipeline(write(tmp_path / "site.yaml", config), OFFERED)


def test_an_installed_route_is_run_as_an_inspection(tmp_path: Path) -> None:
    """It finds out which way; the pipeline's own route decides."""
    config = raw()
    stage(config, "verify")["run"] = "route_cpid"
    load_pipeline(write(tmp_path / "site.yaml", config), OFFERED)


def test_the_example_fits_the_stages_of_this_package(tmp_path: Path) -> None:
    """The page's pipeline is accepted with the stages that the package really offers."""
    project = tomllib.loads((EXAMPLE.parents[2] / "pyproject.toml").read_text())["project"]
    points = [EntryPoint(name, value, ENTRY_POINTS) for name, value in project["entry-points"][ENTRY_POINTS].items()]
    load_pipeline(EXAMPLE, {point.name: point.load for point in points})


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    """Three unknown names are three lines, not one after the other."""
    config = raw()
    for name in ("pack", "plots", "by_cp"):
        stage(config, name)["store"] = "nowhere"
    with pytest.raises(Refused) as refusal:
        load_pipeline(write(tmp_path / "site.yaml", config), OFFERED)
    assert len(re.findall("'nowhere' is no store", str(refusal.value))) == 3


def test_the_schema_of_a_pipeline_is_complete() -> None:
    """The documentation's schema has every key, quantities as texts with an example among them."""
    schema = PipelineConfig.model_json_schema()
    assert schema["$defs"]["NfsStore"]["properties"]["scan"]["examples"] == ["300s"]
    assert schema["$defs"]["Move"]["properties"]["from"]["type"] == "string"
