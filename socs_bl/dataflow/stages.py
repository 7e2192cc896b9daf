"""The stages of a pipeline as people write them, one model a kind."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from socs_bl.core.config import Config
from socs_bl.dataflow.config import (
    Absolute,
    Algorithm,
    Block,
    Choice,
    Condition,
    Directories,
    Directory,
    Identifier,
    Limits,
    Priorities,
    Retrying,
    Store,
    Window,
    Windows,
)
from socs_bl.dataflow.quantities import Duration, Share

Mode = Annotated[str, Field(pattern=r"^0?[0-7]{3}$")]
Group = Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_-]{0,31}$")]
OnBad = Literal["quarantine", "hold"]


class StageBase(Config):
    """What all stages have.

    Attributes
    ----------
    id : str
    when : Expression or None
        For which files; None: for all.
    after : tuple of str
        Stages that are done with a file, or do not apply to it, before this one begins.
    priority : tuple of Choice
        ``low``, ``normal``, ``high``, a number, or a list of ``{if, priority}``.
    retry : Retrying
    """

    id: Identifier
    when: Condition | None = None
    after: tuple[str, ...] = ()
    priority: Priorities = (Choice(priority=0),)
    retry: Retrying = Retrying()


class Work(StageBase):
    """A stage whose work is an installed one; it runs in a process of its own.

    Attributes
    ----------
    store : str
        Where the files are.
    run : str
        Name of the installed stage.
    parameters : dict
        Its parameters.
    limits : Limits
    """

    store: str
    run: str
    parameters: dict[str, Any] = {}
    limits: Limits = Limits()


class Inspect(Work):
    """Looks at files and says what it finds. An installed stage of kind ``route`` is run like this, too.

    Attributes
    ----------
    on_bad : str
        What becomes of a file that is bad: ``quarantine`` or ``hold``.
    on_suspect : str
        Of one that a person should look at; ``pass`` goes on and tells.
    """

    kind: Literal["inspect"]
    on_bad: OnBad = "hold"
    on_suspect: Literal["quarantine", "hold", "pass"] = "pass"


class Transform(Work):
    """Makes other files of files.

    Attributes
    ----------
    into : Template
        Directory of the store for what is made; the root when it is empty.
    replaces : bool
        What is made takes the file's place: later stages leave the file alone.
    on_bad : str
        What becomes of a file that cannot be transformed since it is bad.
    """

    kind: Literal["transform"]
    into: Directory = Field(default="", validate_default=True)
    replaces: bool = False
    on_bad: OnBad = "hold"


class Derive(Work):
    """Makes things that can be made again, such as plots; later stages do not wait for it when it fails.

    Attributes
    ----------
    into : Template
        Directory of the store for what is made; the root when it is empty.
    optional : bool
        A failure keeps nothing waiting.
    """

    kind: Literal["derive"]
    into: Directory = Field(default="", validate_default=True)
    optional: bool = True


class Move(StageBase):
    """Copies files into another store and verifies them there; only a retention stage removes the source.

    Attributes
    ----------
    from_, to : str
        Stores; ``from`` in the file.
    into : tuple of Template
        Directories of the store: one copy in each.
    verify : str
        What the bytes are compared by.
    bwlimit : tuple of Window
        Bytes a second, such as ``2MiB/s``, or a list of ``{between, limit}``.
    mode, group : str or None
        Of the copies; None: as the source.
    manifest : bool
        Write a manifest for every block beside the copies, last.
    """

    kind: Literal["move"]
    from_: str = Field(alias="from")
    to: str
    into: Directories = Field(default=("",), validate_default=True)
    verify: Algorithm = "xxh3_128"
    bwlimit: Windows = (Window(limit=0),)
    mode: Mode | None = None
    group: Group | None = None
    manifest: bool = False


class Target(Config):
    """One of those who get a file.

    Attributes
    ----------
    store : str
    into : Template
    verify : str
    consumed : bool
        Others take the files away: what was verified there once is delivered, and is no copy.
    bwlimit, mode, group
        As of a move.
    """

    store: str
    into: Directory = Field(default="", validate_default=True)
    verify: Algorithm = "xxh3_128"
    consumed: bool = False
    bwlimit: Windows = (Window(limit=0),)
    mode: Mode | None = None
    group: Group | None = None


class Distribute(StageBase):
    """Gives files to several targets, each by a job of its own.

    Attributes
    ----------
    from_ : str
        ``from`` in the file.
    targets : tuple of str
    require : tuple of str
        The stage is done with a file when these have it; empty: when all have.
    """

    kind: Literal["distribute"]
    from_: str = Field(alias="from")
    targets: tuple[str, ...] = Field(min_length=1)
    require: tuple[str, ...] = ()


class Turn(Config):
    """One line of a route; the first that holds counts.

    Attributes
    ----------
    if_ : Expression or None
        ``if`` in the file; without it the line always holds.
    to : tuple of str
        Stages that the file goes on to; empty: to none.
    """

    if_: Condition | None = Field(default=None, alias="if")
    to: tuple[str, ...] = ()


class Route(StageBase):
    """Decides which of several stages a file goes on to. A stage that a route names takes only what a route sends.

    Attributes
    ----------
    store : str
    rules : tuple of Turn
    """

    kind: Literal["route"]
    store: str
    rules: tuple[Turn, ...] = Field(min_length=1)


class DeleteWhen(Config):
    """What must be true before a copy is deleted; all of it.

    Attributes
    ----------
    verified_copies : int
        As many other copies, verified by their hash.
    on : tuple of str
        Only copies in these stores count; empty: in any store, and other places of the same.
    verified_within : float
        Seconds; an older verification does not count.
    replaced : bool
        The file was replaced by a transform, and the copies of what replaced it are counted.
    min_age : float
        Seconds since it was complete.
    free_below, free_until : float or None
        Only while less than this share of the store is free, the oldest first, until that share is.
    last_copy : bool
        Said aloud where no other copy is asked for: the bytes are gone afterwards.
    """

    verified_copies: int = Field(ge=0, le=20)
    on: tuple[str, ...] = ()
    verified_within: Duration = 30 * 86400.0
    replaced: bool = False
    min_age: Duration = 0.0
    free_below: Share | None = None
    free_until: Share | None = None
    last_copy: bool = False

    @model_validator(mode="after")
    def _sound(self) -> DeleteWhen:
        if (self.verified_copies == 0) != self.last_copy:
            raise ValueError(
                "verified_copies: 0 deletes the last copy; say so by last_copy: true, or ask for a copy elsewhere"
            )
        if self.free_until is not None and (self.free_below is None or self.free_until < self.free_below):
            raise ValueError(
                "free_until is where a deletion below free_below ends; set free_below, to not more than it"
            )
        return self


class Retention(StageBase):
    """Deletes copies from a store under a rule.

    Attributes
    ----------
    store : str
    delete_when : DeleteWhen
    dry_run : bool
        Say what would be deleted, and delete nothing.
    """

    kind: Literal["retention"]
    store: str
    delete_when: DeleteWhen
    dry_run: bool = False


Stage = Annotated[
    Inspect | Transform | Derive | Move | Distribute | Route | Retention,
    Field(discriminator="kind"),
]


class PipelineConfig(Config):
    """A pipeline: what one agent does with the files of its host.

    Attributes
    ----------
    pipeline : str
        Its name.
    catalogue : Path
        The catalogue's file, on a local disk.
    stores : dict
    blocks : dict
        The kinds of file; a name belongs to the first that it fits.
    targets : dict
        Who gets files by a stage of kind ``distribute``.
    stages : tuple
        In any order: ``after``, stores and routes say what follows what.
    workers : int
        Processes for inspections, transforms and derivations at the same time.
    """

    pipeline: Identifier
    catalogue: Absolute
    stores: dict[Identifier, Store] = Field(min_length=1)
    blocks: dict[Identifier, Block] = Field(min_length=1)
    targets: dict[Identifier, Target] = {}
    stages: tuple[Stage, ...] = Field(min_length=1)
    workers: int = Field(default=1, ge=1, le=64)
