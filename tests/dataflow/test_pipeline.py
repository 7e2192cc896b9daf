"""What a pipeline does with a file, in which order, and why."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from socs_bl.core.config import check
from socs_bl.core.errors import Refused
from socs_bl.dataflow.expression import Value
from socs_bl.dataflow.naming import check_name, parse_template
from socs_bl.dataflow.pipeline import Facts, Pipeline, Standing, Step
from socs_bl.dataflow.stages import PipelineConfig
from tests.dataflow.borealis import raw

RAW = "20240305.1400.00.sas.a.rawacf"
PACKED = RAW + ".bz2"
IQ = "20240305.1400.00.sas.0.antennas_iq.h5"
PLOT = "20240305.1400.00.sas.0.antennas_iq.antenna_0_0_70.jpg"


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    """That of the site."""
    return Pipeline(check(raw(), PipelineConfig, "test"))


def steps(
    pipeline: Pipeline,
    name: str,
    store: str,
    done: str = "",
    metadata: Mapping[str, Value] | None = None,
    was: str = "",
) -> dict[str, Step]:
    """How the stages stand with a file, by their id."""
    parsed = pipeline.parse(name)
    assert parsed is not None
    facts = Facts(
        name=parsed[1], block=parsed[0], store=store, stores=frozenset(was.split()), done=frozenset(done.split()),
        metadata=dict(metadata or {}),
    )  # fmt: skip
    return {step.stage: step for step in pipeline.steps(facts)}


def standing(found: Mapping[str, Step], wanted: Standing) -> list[str]:
    """The stages that stand so, in order."""
    return [name for name, step in found.items() if step.standing is wanted]


def test_a_raw_file_is_inspected_packed_and_stays(pipeline: Pipeline) -> None:
    """Stages come one after the other, and what was replaced goes no further; its deletion waits for all of them."""
    found = steps(pipeline, RAW, "radar")
    assert standing(found, Standing.NEXT) == ["intake"]
    assert found["pack"].reason == "stage intake is not done; stage verify is not done"
    assert found["to_nas"].reason == "stage pack puts another file in its place"
    assert found["keep_raw"].reason == "; ".join(f"stage {name} is not done" for name in ("intake", "verify", "pack"))
    found = steps(pipeline, RAW, "radar", done="intake verify")
    assert (found["pack"].does, found["pack"].resource) == ("run bzip2 into radar:.", "work")
    assert standing(steps(pipeline, RAW, "radar", done="intake verify pack"), Standing.NEXT) == ["keep_raw"]


def test_what_was_made_enters_as_a_file_of_its_own(pipeline: Pipeline) -> None:
    """The packed file is inspected and moved; a stage that does not apply is not waited for."""
    assert (
        steps(pipeline, PACKED, "radar")["to_nas"].standing is Standing.WAITS
    )  # for what its like would be packed after
    found = steps(pipeline, PACKED, "radar", done="intake verify")
    assert found["pack"].standing is Standing.NO and "does not hold" in found["pack"].reason
    assert standing(found, Standing.NEXT) == ["to_nas"]
    assert found["to_nas"].does == "copy to nas:rawacf and nas:backup"
    assert found["to_nas"].resource == "store:nas"
    assert standing(steps(pipeline, PACKED, "radar", done="intake verify to_nas"), Standing.NEXT) == ["keep"]


def test_a_route_decides_by_what_inspections_found(pipeline: Pipeline) -> None:
    """Until the experiment is known the file waits; then it goes to its targets, or to none."""
    waiting = steps(pipeline, PACKED, "nas", done="intake verify to_nas", was="radar")
    assert waiting["share"].standing is Standing.WAITS and "waits for cp" in waiting["share"].reason
    sent = steps(pipeline, PACKED, "nas", done="intake verify to_nas", was="radar", metadata={"cp": 151})["share"]
    assert (sent.standing, sent.priority) == (Standing.NEXT, 10)
    assert sent.does == "copy to vt (campus:outgoing/vt/sas), archive (campus:sas_rawacf/2024/03)"
    assert "route by_cp, line 1" in sent.reason
    special = steps(pipeline, PACKED, "nas", done="intake verify to_nas", was="radar", metadata={"cp": -3800})["share"]
    assert special.standing is Standing.NO and "line 2 sends it to nothing" in special.reason


def test_kinds_of_file_do_not_meet(pipeline: Pipeline) -> None:
    """A picture takes the way of pictures, although its name is like that of the data it shows."""
    found = steps(pipeline, PLOT, "nas")
    assert standing(found, Standing.NEXT) == ["plots_to_campus"]
    assert found["plots_to_campus"].does == "copy to campus:sas_iq_plots"
    assert standing(steps(pipeline, IQ, "nas", done="intake verify to_nas", was="radar"), Standing.NEXT) == ["plots"]
    assert steps(pipeline, IQ, "nas")["keep_iq"].reason == "stage plots is not done"


@pytest.mark.parametrize(
    "name",
    ["notes.txt", "20241305.1400.00.sas.0.rawacf", "20240305.1400.00.sas.0.rawacf.h5.part", ".hidden.jpg", RAW + "\n"],
)
def test_other_names_belong_to_nothing(pipeline: Pipeline, name: str) -> None:
    """A name that fits no pattern as a whole, or whose time is none, is no file of the pipeline."""
    assert pipeline.parse(name) is None


@pytest.mark.parametrize("bad", ["x/y.jpg", "x\x07y.jpg", "x\udcff.jpg", "x" * 260 + ".jpg"])
def test_a_name_that_is_unsafe_is_refused(pipeline: Pipeline, bad: str) -> None:
    """However wide a pattern is, nothing that is no plain name comes through it."""
    with pytest.raises(Refused, match="rename the file"):
        pipeline.parse("20240305.1400.00.sas." + bad)


def test_names_with_blanks_and_quotes_are_names(pipeline: Pipeline) -> None:
    """What can be printed is taken as it is."""
    text = '20240305.1400.00.sas.it\'s "his" plot.jpg'
    parsed = pipeline.parse(text)
    assert parsed is not None and parsed[1].text == check_name(text) == text


@pytest.mark.parametrize("value", ["..", "a/b", "", "-rf", ".x", "a b", "ü"])
def test_no_field_leads_out_of_its_store(value: str) -> None:
    """A value that cannot be a plain part of a path makes no directory."""
    with pytest.raises(Refused, match="cannot be part of a path"):
        parse_template("data/{radar}").fill({"radar": value})


def test_the_order_does_not_depend_on_how_it_is_written() -> None:
    """Stages written the other way round come in an order that their 'after' allows."""
    config = raw()
    config["stages"].reverse()
    order = Pipeline(check(config, PipelineConfig, "test")).order
    assert order.index("intake") < order.index("pack") < order.index("to_nas")
    assert order.index("by_cp") < order.index("share")
