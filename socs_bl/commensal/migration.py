"""From the original coordinator's saved state to ours, and back.

All pure: `import_state` makes cells of what the original has saved, `export_state` makes of what we have saved what the
original can go on with. Source: commensal-automator, saved state and recovery at start: ``free_instances`` (JSON list;
an empty one counts as none), ``<array>:freesub_state``, ``<array>:state`` (JSON; in practice ``ready`` holds every
instance there is, and a subarray records only if all it has subscribed are in it).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from socs_bl.commensal import allocation, metadata
from socs_bl.commensal.config import CommensalConfig
from socs_bl.commensal.metadata import BandMetadata, Target
from socs_bl.commensal.model import Duty, FreeSub, Instance, Ledger, RecProc, Run, Subarray
from socs_bl.commensal.wire import COMPLETED_RUNS, FREE_INSTANCES
from socs_bl.core.clock import compact_utc
from socs_bl.core.errors import Refused
from socs_bl.core.machine import Cell
from socs_bl.core.names import instance_order, parse_instance

SETS = ("subscribed", "ready", "recording", "processing")
UNKNOWN = "unknown"
ASK_DELAY = 1.0  # seconds until analyzers are asked about a search that was under way
_NOWHERE = Target("NOT_PROVIDED", "0:00:00", "0:00:00")


@dataclass(frozen=True)
class Imported:
    """A saved state in our terms.

    Attributes
    ----------
    cells : dict of str to Cell
        Instances, subarrays, runs and the count of runs under their keys.
    timers : dict of str to float
        Timers to arm, seconds from now.
    findings : list of str
        What was not as it should be and what was made of it, in sentences.
    """

    cells: dict[str, Cell] = field(default_factory=dict)
    timers: dict[str, float] = field(default_factory=dict)
    findings: list[str] = field(default_factory=list)


@dataclass
class _Saved:
    """One subarray as it was saved."""

    name: str
    freesub: str
    recproc: str
    members: dict[str, tuple[str, ...]]

    def all(self, *names: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys(instance for name in names for instance in self.members[name]))


def import_state(keys: Mapping[str, str], config: CommensalConfig, now: float) -> Imported:
    """Make cells of the original's saved state.

    Parameters
    ----------
    keys : mapping of str to str
        The saved keys, and of the rest of Redis what there is: CAM's keys of a subarray (`metadata.keys_of`; the length
        of a list for the antennas), ``<array>:datadir``, ``metadata:<datadir>``, ``rec_end:<datadir>``.
    config : CommensalConfig
    now : float
        Unix seconds.

    Returns
    -------
    Imported
        One owner an instance whatever the original had: who records or searches with it, else the first subarray that
        has subscribed it, else the pool.
    """
    return _Importer(keys, config, now).run()


class _Importer:
    """Collects an `Imported`."""

    def __init__(self, keys: Mapping[str, str], config: CommensalConfig, now: float) -> None:
        self._keys = keys
        self._config = config
        self._now = now
        self._out = Imported()
        self._taken: dict[str, str] = {}

    def run(self) -> Imported:
        saved = [self._read(name) for name in self._config.arrays]
        for key in sorted(self._keys):
            name = key.removesuffix(":state")
            if name != key and name not in self._config.arrays:
                self._find(f"{name} was saved and is not configured; its instances are taken as free")
        # Who works with an instance comes first: it cannot be taken away from that.
        runs = {array.name: self._run_of(array) for array in saved}
        for array in saved:
            self._array(array, runs[array.name])
        self._pool()
        completed = self._keys.get(COMPLETED_RUNS, "")
        if completed.isascii() and completed.isdigit():
            self._out.cells["ledger"] = Ledger(completed=int(completed))
        return self._out

    def _find(self, text: str) -> None:
        self._out.findings.append(text)

    # -- what was saved -----------------------------------------------------------------------------------------------

    def _read(self, name: str) -> _Saved:
        record: Mapping[str, Any] = {}
        text = self._keys.get(f"{name}:state")
        if text is not None:
            record = _json(text, dict) or {}
            if not record:
                self._find(f"{name}: the saved state is unreadable ({text[:60]!r}); taken as READY without instances")
        members = {kind: self._names(name, kind, record.get(kind, [])) for kind in SETS}
        recproc = str(record.get("recproc_state", RecProc.READY.value))
        freesub = self._keys.get(f"{name}:freesub_state", "")
        if freesub not in {state.value for state in FreeSub}:
            if freesub:
                self._find(f"{name}: allocation state {freesub[:40]!r} is unknown; taken from the instances it holds")
            freesub = (FreeSub.SUBSCRIBED if members["subscribed"] else FreeSub.FREE).value
        if recproc not in {state.value for state in RecProc}:
            self._find(f"{name}: recording state {recproc[:40]!r} is unknown; taken as ERROR, reset_array leads out")
            recproc = RecProc.ERROR.value
        return _Saved(name, freesub, recproc, members)

    def _names(self, array: str, kind: str, values: object) -> tuple[str, ...]:
        names = []
        for value in values if isinstance(values, list) else []:
            try:
                names.append(str(parse_instance(str(value))))
            except Refused as refused:
                self._find(f"{array or 'pool'}: {kind} names no instance: {refused}")
        return tuple(sorted(set(names), key=instance_order))

    # -- recordings and searches ----------------------------------------------------------------------------------------

    def _run_of(self, array: _Saved) -> Run | None:
        """The recording or search that was under way; its instances are the subarray's from here on."""
        searching = array.recproc == RecProc.PROCESS.value
        kind = "processing" if searching else "recording"
        odd = array.all("recording", "processing")
        if searching or array.recproc == RecProc.RECORD.value:
            names = self._take(array, array.members[kind])
            odd = tuple(name for name in odd if name not in array.members[kind])
        else:
            names = ()
        for name in self._take(array, odd):
            reason = f"was saved as working for {array.name}, which was in {array.recproc}"
            self._out.cells[f"instance/{name}"] = Instance(name=name, duty=Duty.QUARANTINED, reason=reason)
            self._find(f"{name} {reason}; quarantined, release_instance puts it back")
        if not names:
            return None
        return self._make_run(array, names, searching)

    def _take(self, array: _Saved, names: Sequence[str]) -> tuple[str, ...]:
        kept = []
        for name in names:
            if name in self._taken:
                self._find(
                    f"{name} was saved as working for {self._taken[name]} and for {array.name}; it stays with the first"
                )
            else:
                self._taken[name] = array.name
                kept.append(name)
        return tuple(kept)

    def _make_run(self, array: _Saved, names: tuple[str, ...], searching: bool) -> Run | None:
        datadir = self._keys.get(f"{array.name}:datadir", "")
        facts = _json(self._keys.get(f"metadata:{datadir}", ""), dict) or {}
        started, ended = facts.get("start_ts"), _number(self._keys.get(f"rec_end:{datadir}"))
        known = isinstance(started, int | float) and not isinstance(started, bool) and bool(facts.get("obsid"))
        if not known and not searching:
            text = f"{array.name} was recording, and {array.name}:datadir leads to no metadata; it is taken as READY,"
            self._find(f"{text} what {', '.join(names)} recorded is in their lists of unprocessed directories")
            for name in names:
                del self._taken[name]
            return None
        begin = float(started) if known and isinstance(started, int | float) else self._now - self._config.dwell
        if not known:
            self._find(f"{array.name} was searching, and nothing says what; results count for it all the same")
        closed = searching or array.freesub != FreeSub.SUBSCRIBED.value
        identity = str(facts["obsid"]) if known else f"{self._config.telescope}:{array.name}:{compact_utc(begin)}"
        run = Run(
            id=identity,
            array=array.name,
            instances=names,
            started=begin,
            ended=ended if ended is not None else begin + self._config.dwell,
            pktstart=0,
            datadirs={name: self._directory(name, datadir if known else "") for name in names},
            band=str(facts.get("band", "")),
            antennas=int(facts["nants"]) if isinstance(facts.get("nants"), int) else 0,
            target=self._target(array.name),
            closed=closed,
        )
        duty = Duty.PROCESSING if closed else Duty.RECORDING
        for name in names:
            cell = Instance(name=name, duty=duty, owner=array.name, run=identity, tries=1 if closed else 0)
            self._out.cells[f"instance/{name}"] = cell
        self._out.cells[f"run/{identity}"] = run
        self._arm(array, run, searching)
        return run

    def _arm(self, array: _Saved, run: Run, searching: bool) -> None:
        left = max(run.ended - self._now, 0.0) + self._config.dwell_margin
        if not run.closed:
            self._out.timers[f"record/{array.name}"] = left
            self._find(f"{array.name} was recording {run.id}; nothing had kept its end, it ends in {left:.0f} s")
            return
        self._out.timers[f"process/{run.id}"] = self._config.processing_deadline
        for name in run.instances:
            self._out.timers[f"ask/{name}"] = ASK_DELAY if searching else left
        text = (
            f"{array.name} was searching {run.id}"
            if searching
            else f"{array.name} was given up while it recorded {run.id}"
        )
        self._find(f"{text}; returns sent meanwhile are lost, its {len(run.instances)} analyzers are asked again")

    def _directory(self, instance: str, datadir: str) -> str:
        """The original keeps the directory of one volume; the others have the same name."""
        if not datadir:
            return self._keys.get(f"{instance}:last-datadir", UNKNOWN)
        volume = self._config.data_volume.replace("{number}", str(parse_instance(instance).number))
        return f"{volume}/{datadir.rstrip('/').rsplit('/', 1)[-1]}"

    def _target(self, array: str) -> Target:
        try:
            return metadata.parse_target(array, self._keys.get(f"{array}:target", "").strip("'\""))
        except Refused:
            return _NOWHERE

    # -- subarrays and pool ---------------------------------------------------------------------------------------------

    def _array(self, saved: _Saved, run: Run | None) -> None:
        cell = Subarray(name=saved.name, since=self._now, last_event="imported")
        if saved.recproc in (RecProc.WAITING.value, RecProc.ERROR.value):
            cell = msgspec.structs.replace(cell, recproc=RecProc(saved.recproc))
        if saved.freesub == FreeSub.CONFIGURING.value:
            cell = msgspec.structs.replace(cell, freesub=FreeSub.CONFIGURING)
            self._find(f"{saved.name} was being configured; publish conf_complete:{saved.name} again if it has been")
        elif saved.freesub == FreeSub.SUBSCRIBED.value:
            cell = self._subscribed(saved, cell, run)
        elif saved.members["subscribed"]:
            self._find(f"{saved.name} is {saved.freesub} and has instances; they are free when their work has ended")
        self._out.cells[f"array/{saved.name}"] = cell

    def _subscribed(self, saved: _Saved, cell: Subarray, run: Run | None) -> Subarray:
        names = []
        for name in saved.members["subscribed"]:
            owner = self._taken.setdefault(name, saved.name)
            if owner != saved.name:
                self._find(f"{name} was saved as {owner}'s and {saved.name}'s; {saved.name} goes on without it")
            elif self._duty(name) is not Duty.QUARANTINED:
                names.append(name)
        strangers = [name for name in run.instances if name not in names] if run and not run.closed else []
        if strangers:
            self._find(f"{', '.join(strangers)} recorded for {saved.name} without being subscribed; subscribed now")
            names = sorted([*names, *strangers], key=instance_order)
        band = self._band(saved.name)
        plan = None
        if band is not None:
            plan = allocation.plan(
                band.streams, tuple(names), self._config.streams_per_instance, band.channels_per_stream
            )
        if band is None or plan is None or not plan.shares:
            self._find(f"{saved.name} cannot be taken over as SUBSCRIBED; deconfigure and configure it")
            return self._give_up(saved, cell, run, names)
        shared = {share.instance for share in plan.shares}
        for name in names:
            if name not in shared:
                self._find(f"{name} is more than {saved.name} needs")
                self._release(name)
            elif self._duty(name) is None:
                self._out.cells[f"instance/{name}"] = Instance(name=name, duty=Duty.READY, owner=saved.name)
        # What the instances were told is read back, and told again where it is missing.
        self._out.timers[f"confirm/{saved.name}"] = self._config.confirm_pause
        works = run is not None and cell.recproc is RecProc.READY
        return msgspec.structs.replace(
            cell,
            freesub=FreeSub.SUBSCRIBED,
            recproc=RecProc(saved.recproc) if works else cell.recproc,
            run=run.id if run is not None and works else "",
            shares=plan.shares,
            band=band,
            announced=True,
            requested=plan.requested,
            last_started=run.started if run is not None else 0.0,
        )

    def _give_up(self, saved: _Saved, cell: Subarray, run: Run | None, names: Sequence[str]) -> Subarray:
        """Its instances are free, when what they do has ended; a recording is closed and searched."""
        if run is not None and not run.closed:
            self._out.cells[f"run/{run.id}"] = msgspec.structs.replace(run, closed=True)
            left = self._out.timers.pop(f"record/{saved.name}")
            self._out.timers[f"process/{run.id}"] = self._config.processing_deadline
            for name in run.instances:
                self._out.timers[f"ask/{name}"] = left
                member = Instance(name=name, duty=Duty.PROCESSING, owner=saved.name, run=run.id, tries=1)
                self._out.cells[f"instance/{name}"] = member
        for name in names:
            if self._duty(name) is None:
                self._release(name)
        return cell

    def _duty(self, name: str) -> Duty | None:
        cell = self._out.cells.get(f"instance/{name}")
        return cell.duty if isinstance(cell, Instance) else None

    def _release(self, name: str) -> None:
        if self._duty(name) is None:
            del self._taken[name]

    def _band(self, array: str) -> BandMetadata | None:
        name, prefix = (self._keys.get(key, "") for key in metadata.first_keys(array))
        try:
            redis_keys = metadata.keys_of(array, name, prefix)
            values = {short: self._keys[key] for short, key in redis_keys.items() if key in self._keys}
            return metadata.parse_band(array, values, prefix)
        except Refused as refused:
            self._find(f"{array}: {refused}")
            return None

    def _pool(self) -> None:
        """Whoever is not at work is free; what the original had done with it is told where it is odd."""
        text = self._keys.get(FREE_INSTANCES)
        listed = self._names("", "free", _json(text, list)) if text is not None else self._config.hashpipe_instances
        if text is not None and _json(text, list) is None:
            self._find(f"{FREE_INSTANCES} is unreadable ({text[:60]!r}); who is not at work is free")
            listed = self._config.hashpipe_instances
        for name in listed:
            if name in self._taken and text is not None:
                self._find(f"{name} was saved as free and as {self._taken[name]}'s; it is not free")
            elif name not in self._config.hashpipe_instances:
                self._find(f"{name} was saved as free and is not configured; it is left out")
        for name in self._config.hashpipe_instances:
            if name not in self._taken:
                self._out.cells[f"instance/{name}"] = Instance(name=name)
                if name not in listed:
                    self._find(f"{name} is in no saved list; it is taken as new, and free")


def export_state(keys: Mapping[str, str], config: CommensalConfig) -> tuple[dict[str, str], list[str]]:
    """Make of the state we have saved one the original can go on with, for a site that goes back.

    Parameters
    ----------
    keys : mapping of str to str
        The saved keys as we write them.
    config : CommensalConfig

    Returns
    -------
    keys : dict of str to str
        What to write before the original starts.
    findings : list of str
        What the original will not do by itself.
    """
    changed: dict[str, str] = {}
    findings: list[str] = []
    free = _json(keys.get(FREE_INSTANCES, "[]"), list)
    known = {*(free or [])}
    if free == []:
        findings.append("no instance is free: the original takes that for all free; start it when one is")
    for array in config.arrays:
        record = _json(keys.get(f"{array}:state", ""), dict)
        if record is None:
            continue
        busy = {*record.get("recording", []), *record.get("processing", [])}
        known |= busy | {*record.get("subscribed", [])}
        names = sorted({*config.hashpipe_instances, *record.get("ready", [])} - busy, key=instance_order)
        changed[f"{array}:state"] = json.dumps({**record, "ready": names})
        state = record.get("recproc_state")
        if state == RecProc.RECORD.value:
            findings.append(f"{array} records: the original has no timer for its end; publish rec-timeout:{array}")
        elif state == RecProc.PROCESS.value:
            names = sorted(record.get("processing", []), key=instance_order)
            findings.append(f"{array} searches: the original waits for the returns of {', '.join(names)}")
        elif state in (RecProc.WAITING.value, RecProc.ERROR.value):
            findings.append(f"{array} is in {state}: the original has no way out; reset_array first")
    if out := sorted(set(config.hashpipe_instances) - known, key=instance_order):
        findings.append(f"{', '.join(out)}: out of service, in no list; the original uses none that is not free")
    return changed, findings


def _json(text: str | None, kind: type[Any]) -> Any:
    try:
        found = json.loads(text or "")
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, kind) else None


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if 0 <= number < 1e11 else None
