"""Which way a DMAP file goes: by the number of its experiment (CPID)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from socs_bl.core.stage import StageResult
from socs_bl.superdarn import dmap, names
from socs_bl.superdarn.checks import name_metadata
from socs_bl.superdarn.work import judged

Cpid = Annotated[int, Field(ge=-(2**15), lt=2**15)]


class RouteParameters(BaseModel):
    """Experiments and where their files go."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    routes: dict[str, tuple[Cpid, ...]]
    """Name of a route and its experiments; those in a special mode have negative numbers, which are other experiments."""

    otherwise: str = "special"
    """The route of all others."""

    @model_validator(mode="after")
    def _one_route_each(self) -> RouteParameters:
        taken: dict[int, str] = {}
        for route, cpids in self.routes.items():
            for cpid in cpids:
                if taken.setdefault(cpid, route) != route:
                    raise ValueError(f"experiment {cpid} is on routes {taken[cpid]} and {route}; name it once")
        return self

    def route(self, cpid: int) -> str:
        """The route of an experiment."""
        return next((route for route, cpids in self.routes.items() if cpid in cpids), self.otherwise)


class Route:
    """Stage `route_cpid`: metadata `route` and `cp`, from the first record."""

    kind: ClassVar[str] = "route"
    parameters: ClassVar[type[BaseModel]] = RouteParameters

    @staticmethod
    @judged
    def work(input: Path, output_directory: Path, parameters: RouteParameters) -> StageResult:
        """Look at one record; `check_dmap` comes before this and looks at all."""
        name = names.parse_block(input.name)
        cpid = int(dmap.first_record(input)["cp"])
        route = parameters.route(cpid)
        reason = "" if route != parameters.otherwise else f"experiment {cpid} is on no other route"
        return StageResult(reason=reason, metadata=name_metadata(name) | {"cp": cpid, "route": route})
