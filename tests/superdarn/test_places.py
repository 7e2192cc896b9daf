"""Places of the original, and the stages that the package offers."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from pydantic import BaseModel

from socs_bl.core.errors import Refused
from socs_bl.core.stage import ENTRY_POINTS
from socs_bl.superdarn import names, places

ROOT = Path(__file__).parents[2]


def _stages() -> dict[str, str]:
    offered: dict[str, str] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"][
        ENTRY_POINTS
    ]
    return offered


@pytest.mark.parametrize(
    ("place", "name", "directory", "mode"),
    [
        ("radar", "20240305.1400.00.sas.a.rawacf", "/data/borealis_data/20240305", 0o775),
        ("holding", "20240305.1400.00.rkn.0.rawacf.h5", "/sddata/rkn_holding_dir", 0o664),
        ("nas_array", "20191231.2200.00.cly.1.rawacf.hdf5", "/data/borealis_site_data/cly_rawacf/2019/12", 0o644),
        ("nas_dmap", "20240305.1400.00.sas.a.rawacf.bz2", "/data/borealis_site_data/sas_rawacf_dmap/2024/03", 0o664),
        ("mirror", "20240305.1400.00.sas.a.rawacf.bz2", "raw/2024/03", 0o664),
    ],
)
def test_places_of_the_original(place: str, name: str, directory: str, mode: int) -> None:
    """Directories and modes are those that the scripts used."""
    found = places.read_places().place(place)
    assert str(found.directory(names.parse_block(name))) == directory
    assert found.bits == mode


def test_archive_of_plots() -> None:
    """Absolute, whatever the working directory; and a user's home has to be named."""
    plot = names.parse_plot("20240305.1400.00.sas.0.antennas_iq.antenna_3_0_70.jpg")
    all_places = places.read_places()
    assert all_places.place("plot_archive").directory(plot) == Path(
        "/sddata/antennas_iq_plots/sas_iq_plots/archive/2024/03"
    )
    with pytest.raises(Refused):
        all_places.place("plots").directory(plot)
    assert all_places.place("plots").directory(plot, Path("/home/x")) == Path("/home/x/logs/daily_plots")
    with pytest.raises(Refused, match="there are"):
        all_places.place("nowhere")


def test_wrong_places_are_refused(tmp_path: Path) -> None:
    """An unknown field in a path, or a mode that is none, is found when the file is read."""
    text = places.ORIGINAL.read_text()
    for wrong in (text.replace("{day}", "{date}"), text.replace('"644"', '"899"'), text + "more: 1\n"):
        (tmp_path / "places.yaml").write_text(wrong)
        with pytest.raises(ValueError):
            places.read_places(tmp_path / "places.yaml")


@pytest.mark.parametrize("name", sorted(_stages()))
def test_stages_are_offered(name: str) -> None:
    """Each entry point leads to a class with a kind, parameters that refuse unknown names, and work that is described."""
    module, _, title = _stages()[name].partition(":")
    stage = getattr(importlib.import_module(module), title)
    assert stage.kind in {"inspect", "transform", "derive", "route"}
    assert issubclass(stage.parameters, BaseModel)
    assert stage.parameters.model_config["extra"] == "forbid"
    assert stage.work.__doc__
    assert re.search(rf"`{name}`", stage.__doc__)


def test_every_stage_has_an_entry_point() -> None:
    """No stage of the package is out of a pipeline's reach."""
    offered = set(_stages().values())
    for path in (ROOT / "socs_bl/superdarn").glob("*.py"):
        for title in re.findall(r"^class (\w+):\n    \"\"\"Stage `", path.read_text(), re.MULTILINE):
            assert f"socs_bl.superdarn.{path.stem}:{title}" in offered


def test_heavy_libraries_come_late() -> None:
    """Looking at the stages, as an engine does at its start, imports neither pydarnio nor what draws."""
    modules = sorted({value.partition(":")[0] for value in _stages().values()})
    program = (
        f"import importlib, sys\nfor name in {modules!r}: importlib.import_module(name)\n"
        "print(*({'pydarnio', 'dmap', 'matplotlib', 'PIL'} & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "", "")
