"""The machine of the executor's listener: which scan is recorded when, and which node has to be told.

The documents of a dataset cut its time, each at its start. What begins with a document that wants data of our
correlator is a scan, recorded from there to the next cut; while there is none, it is open. Rules:

* what says again what is known changes nothing;
* a document that comes out of order cuts where it belongs, as long as the time it describes is not over; one of the
  same start as another replaces it, as long as that has not begun. Else it is outdated: counted, told, not acted on;
* every scan has a uid of its own, made of the time of the event that opened it;
* each node is told of a scan, and of its end, until it has taken both; one that does not answer holds up nobody, and
  is given up some time after the end.
"""

from __future__ import annotations

import msgspec

from socs_bl.bdf.scan import Scan, make_uid
from socs_bl.core.effect import Answer, Effect
from socs_bl.core.event import Event, Restarted
from socs_bl.core.machine import Machine
from socs_bl.correlator.observation.model import (
    CELLS,
    EFFECTS,
    EVENTS,
    Antennas,
    AntennasHeard,
    AntennaTable,
    Boundary,
    CloseAsked,
    Dataset,
    History,
    Ledger,
    Notify,
    Observation,
    ObservationHeard,
    Order,
    Past,
    Record,
    Recording,
    Settings,
    StopRecording,
)

EXEC_BLOCK = "uid:///evla/execblock/"
MOST_DATASETS = 64
MOST_TABLES = 16
MOST_BOUNDARIES = 16
MOST_SAID = 8
MOST_PAST = 20
BY_HAND = "by hand"
RETRY, OVER = "retry", "over"  # timers
SECOND = 10**9
LONGEST_WAIT = 86400.0  # seconds


class ObservationMachine(Machine):
    """Decides what is recorded. Its `Settings` come with ``Restarted.world``."""

    event_types = EVENTS
    effect_types = EFFECTS
    cell_types = CELLS

    # -- what it knows --------------------------------------------------------------------------------------------

    @property
    def settings(self) -> Settings:
        """The settings of the last restart."""
        return self.get("settings", Settings) or Settings()

    @property
    def ledger(self) -> Ledger:
        """The counts."""
        return self.get("ledger", Ledger) or Ledger()

    @property
    def history(self) -> History:
        """The last scans that are over."""
        return self.get("history", History) or History()

    def datasets(self) -> list[Dataset]:
        """All datasets that are remembered, by id."""
        return [cell for _, cell in sorted(self.cells.items()) if isinstance(cell, Dataset)]

    def recordings(self) -> list[Recording]:
        """Scans that are open, or whose end not every node knows, by uid."""
        return [cell for _, cell in sorted(self.cells.items()) if isinstance(cell, Recording)]

    def open_scan(self, dataset_id: str) -> Recording | None:
        """The open scan of a dataset."""
        dataset = self.get(f"dataset/{dataset_id}", Dataset)
        if dataset is None or not dataset.boundaries or not dataset.boundaries[-1].uid:
            return None
        found = self._recording(dataset.boundaries[-1].uid)
        return found if found is not None and not found.scan.stop_ns else None

    # -- events ---------------------------------------------------------------------------------------------------

    def handle(self, event: Event) -> None:
        """Answer an event."""
        match event:
            case ObservationHeard(observation=observation):
                self._heard(observation)
            case AntennasHeard(table=table):
                self._know(table)
            case CloseAsked(dataset_id=dataset_id):
                self._close_now(dataset_id)

    def done(self, effect: Effect) -> None:
        """A node has taken a scan, or its end."""
        match effect:
            case Record(node=node, scan=scan):
                self._told(scan.uid, node, scan.stop_ns)
            case StopRecording(node=node, uid=uid, stop_ns=stop_ns):
                self._told(uid, node, stop_ns)

    def failed(self, effect: Effect, reason: str, unknown: bool) -> None:
        """A node did not take it: once more later, or never."""
        if isinstance(effect, Record):
            self._not_told(effect.scan.uid, effect.node, reason)
        elif isinstance(effect, StopRecording):
            self._not_told(effect.uid, effect.node, reason)

    def fired(self, name: str) -> None:
        """Ask a node again; or a scan is over that could have been cut anew until now."""
        kind, node, uid = name.split("|")
        if kind == RETRY:
            self._drive(uid, node)
        else:
            self._forget_over(uid)

    def restarted(self, event: Restarted) -> None:
        """What was under way goes on; nodes that are not configured any more are not asked."""
        self.put("settings", _settings(event))
        for recording in self.recordings():
            uid = recording.scan.uid
            for node in recording.orders.keys() - set(self.settings.nodes):
                self._give_up(uid, node, "it is not configured any more")
            for node in self._orders(uid):
                self._drive(uid, node)

    # -- documents ------------------------------------------------------------------------------------------------

    def _heard(self, observation: Observation) -> None:
        """Cut a dataset where a document says."""
        dataset = self._dataset(observation.dataset_id)
        if dataset is None:
            self._count(crowded=1)
            text = f"{MOST_DATASETS} datasets are under way; close_scan some of them"
            self._tell("error", f"a document of {observation.dataset_id} was not taken: {text}")
            return
        said = _said(observation)
        same = next((cut for cut in dataset.boundaries if cut.start_ns == observation.start_ns), None)
        after = next((cut for cut in dataset.boundaries if cut.start_ns > observation.start_ns), None)
        now_ns = round(self.now.wall * SECOND)
        if same is not None and said in same.said:
            self._count(repeated=1)
            self.put(f"dataset/{dataset.id}", msgspec.structs.replace(dataset, heard=self.now.wall))
            return
        older = same is not None and -1 < observation.sequence < same.sequence
        if older or (same is not None and same.start_ns <= now_ns) or (after is not None and after.start_ns <= now_ns):
            self._count(outdated=1)
            self._tell("warning", f"a document of {dataset.id}, {_named(observation)}, came too late to be acted on")
            return
        self._count(accepted=1)
        earlier = same.said if same is not None else ()
        cut = Boundary(observation.start_ns, observation.sequence, (*earlier, said)[-MOST_SAID:])
        self._cut(dataset, cut, observation)

    def _cut(self, dataset: Dataset, cut: Boundary, observation: Observation | None, reason: str = "") -> None:
        """Put a cut where it belongs, end what was there, and open the scan it begins."""
        reason = reason or (_named(observation) if observation is not None else BY_HAND)
        before = [item for item in dataset.boundaries if item.start_ns < cut.start_ns]
        same = [item for item in dataset.boundaries if item.start_ns == cut.start_ns]
        after = [item for item in dataset.boundaries if item.start_ns > cut.start_ns]
        for ended in (*before[-1:], *same):
            self._end(ended.uid, cut.start_ns, reason)
        if observation is not None and observation.records(self.settings.correlator):
            uid = self._open(dataset, observation, after[0].start_ns if after else 0)
            cut = msgspec.structs.replace(cut, uid=uid)
        kept = (*before, cut, *after)[-MOST_BOUNDARIES:]
        self.put(
            f"dataset/{dataset.id}", msgspec.structs.replace(dataset, heard=self.now.wall, boundaries=kept)
        )  # fmt: skip

    def _open(self, dataset: Dataset, observation: Observation, stop_ns: int) -> str:
        """Open a scan, or one whose end is known already, and have it recorded."""
        antennas = self.get(f"antennas/{dataset.id}", Antennas)
        scan = Scan(
            uid=make_uid(self._number()),
            dataset_id=dataset.id,
            config_id=observation.config_id,
            scan=observation.scan,
            subscan=observation.subscan,
            project_path=f"0/{observation.scan}/{observation.subscan}/",
            exec_block=dataset.exec_block,
            start_ns=observation.start_ns,
            stop_ns=stop_ns,
            nodes=self.settings.nodes,
            source=observation.source,
            ra=observation.ra,
            dec=observation.dec,
            intents=observation.intents,
            antennas=antennas.table.antennas if antennas is not None else (),
            observer=observation.intent("observername"),
            project=observation.intent("projectid"),
        )
        reason = "the next document, which came before" if stop_ns else ""
        orders = {node: Order() for node in self.settings.nodes}
        self.put(f"recording/{scan.uid}", Recording(scan=scan, reason=reason, orders=orders))
        self._count(opened=1, closed=1 if stop_ns else 0)
        for node in orders:
            self._drive(scan.uid, node)
        return scan.uid

    def _end(self, uid: str, stop_ns: int, reason: str) -> None:
        """End a scan, or end one earlier than was known."""
        recording = self._recording(uid)
        if recording is None:
            return
        scan = recording.scan
        # A scan that is over before it began holds nothing, and still has a window.
        stop_ns = max(stop_ns, scan.start_ns + 1)
        self._count(closed=0 if scan.stop_ns else 1)
        scan = msgspec.structs.replace(scan, stop_ns=stop_ns)
        self.put(f"recording/{uid}", msgspec.structs.replace(recording, scan=scan, reason=reason))
        for node in recording.orders:
            self._drive(uid, node)
        self._forget_over(uid)

    def _close_now(self, dataset_id: str) -> None:
        """A person ends the open scan of a dataset."""
        dataset, found = self.get(f"dataset/{dataset_id}", Dataset), self.open_scan(dataset_id)
        if dataset is None or found is None:
            names = ", ".join(item.id for item in self.datasets() if self.open_scan(item.id)) or "none"
            self.issue(Answer(refusal=f"no scan of {dataset_id!r:.80} is open; open are those of {names}"))
            return
        start_ns = max(round(self.now.wall * SECOND), found.scan.start_ns + 1)
        self._cut(dataset, Boundary(start_ns, -1, ()), None)
        self.issue(Answer())

    def _know(self, table: AntennaTable) -> None:
        """Keep a table of antennas for the scans of its dataset."""
        self.put(f"antennas/{table.dataset_id}", Antennas(table=table, heard=self.now.wall))
        kept = [cell for cell in self.cells.values() if isinstance(cell, Antennas)]
        if len(kept) > MOST_TABLES:
            oldest = min(kept, key=lambda cell: (cell.heard, cell.table.dataset_id))
            self.drop(f"antennas/{oldest.table.dataset_id}")

    def _dataset(self, name: str) -> Dataset | None:
        """A dataset, made when it is new; None when too many are under way."""
        found = self.get(f"dataset/{name}", Dataset)
        if found is not None:
            return found
        known = self.datasets()
        if len(known) >= MOST_DATASETS:
            busy = {recording.scan.dataset_id for recording in self.recordings()}
            idle = [dataset for dataset in known if dataset.id not in busy]
            if not idle:
                return None
            self.drop(f"dataset/{min(idle, key=lambda dataset: (dataset.heard, dataset.id)).id}")
        return Dataset(id=name, exec_block=f"{EXEC_BLOCK}{self._number()}")

    # -- nodes ----------------------------------------------------------------------------------------------------

    def _drive(self, uid: str, node: str) -> None:
        """Give a node the next order it needs, unless it has one or waits to be asked again."""
        recording = self._recording(uid)
        if recording is None or node not in recording.orders:
            return
        lane, order, scan = f"{node}/{uid}", recording.orders[node], recording.scan
        if self.outstanding_of(Effect, lane) or _timer(RETRY, node, uid) in self.timers:
            return
        if not order.known:
            self.issue(Record(node=node, scan=scan), lane=lane)
        elif order.stop_ns != scan.stop_ns:
            self.issue(StopRecording(node=node, uid=uid, stop_ns=scan.stop_ns, reason=recording.reason), lane=lane)

    def _told(self, uid: str, node: str, stop_ns: int) -> None:
        """A node has taken a scan as it was then, or its end."""
        order = self._orders(uid).get(node)
        if order is None:
            return
        if order.tries:
            self._tell("info", f"{node} has taken {uid} after {order.tries} failures")
        self._set_order(uid, node, Order(known=True, stop_ns=stop_ns))
        self._drive(uid, node)
        self._forget_over(uid)

    def _not_told(self, uid: str, node: str, reason: str) -> None:
        """A node has not; people are told at the first time and when it is given up."""
        recording, order = self._recording(uid), self._orders(uid).get(node)
        if recording is None or order is None:
            return
        stop_ns, settings = recording.scan.stop_ns, self.settings
        if stop_ns and self.now.wall > stop_ns / SECOND + settings.give_up:
            self._give_up(uid, node, reason)
            return
        if not order.tries:
            self._tell("warning", f"{node} has not taken {_titled(recording.scan)} and is asked again: {reason}")
        pause = min(settings.first_pause * 2.0 ** min(order.tries, 30), settings.longest_pause)
        self._set_order(uid, node, msgspec.structs.replace(order, tries=order.tries + 1))
        self.arm(_timer(RETRY, node, uid), pause)

    def _give_up(self, uid: str, node: str, reason: str) -> None:
        """A node is not asked any more about a scan; what it would have recorded is not there."""
        recording = self._recording(uid)
        if recording is None:
            return
        self.cancel(_timer(RETRY, node, uid))
        for effect in self.outstanding_of(Effect, f"{node}/{uid}"):
            self.withdraw(effect.id)
        rest = {name: order for name, order in recording.orders.items() if name != node}
        self.put(f"recording/{uid}", msgspec.structs.replace(recording, orders=rest))
        self._count(lost=1)
        part = "the end of " if recording.orders[node].known else ""
        self._tell(
            "error", f"{node} was never told {part}{_titled(recording.scan)}: {reason}; see what it has recorded"
        )
        self._forget_over(uid)

    def _forget_over(self, uid: str) -> None:
        """Forget a scan of which every node knows all, once it is over: until then it may be cut anew."""
        recording = self._recording(uid)
        if recording is None or not recording.scan.stop_ns:
            return
        scan = recording.scan
        self.cancel(_timer(OVER, "", uid))
        if any(not order.known or order.stop_ns != scan.stop_ns for order in recording.orders.values()):
            return
        left = scan.stop_ns / SECOND - self.now.wall
        if left > 0:
            self.arm(
                _timer(OVER, "", uid), min(left, LONGEST_WAIT)
            )  # a document may say any year; no reactor waits so long
            return
        self.drop(f"recording/{uid}")
        past = Past(
            uid, scan.dataset_id, scan.scan, scan.subscan, scan.source, scan.start_ns, scan.stop_ns, recording.reason
        )
        self.put("history", History(scans=(*self.history.scans, past)[-MOST_PAST:]))

    # -- small things ---------------------------------------------------------------------------------------------

    def _recording(self, uid: str) -> Recording | None:
        return self.get(f"recording/{uid}", Recording) if uid else None

    def _orders(self, uid: str) -> dict[str, Order]:
        recording = self._recording(uid)
        return dict(recording.orders) if recording is not None else {}

    def _set_order(self, uid: str, node: str, order: Order) -> None:
        recording = self._recording(uid)
        assert recording is not None, uid
        orders = {**recording.orders, node: order}
        self.put(f"recording/{uid}", msgspec.structs.replace(recording, orders=orders))

    def _number(self) -> int:
        """The time of the event in milliseconds, or the next number that is free."""
        number = max(int(self.now.wall * 1000), self.ledger.last_ms + 1)
        self.put("ledger", msgspec.structs.replace(self.ledger, last_ms=number))
        return number

    def _count(self, **more: int) -> None:
        ledger = self.ledger
        counted = {name: getattr(ledger, name) + number for name, number in more.items()}
        self.put("ledger", msgspec.structs.replace(ledger, **counted))

    def _tell(self, level: str, text: str) -> None:
        self.issue(Notify(level=level, text=text))

    # -- what holds -----------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Assert the invariants.

        * a dataset has at most one open scan, which began with its last cut;
        * the scans of a dataset follow one another: each ends where the next cut is;
        * every open scan belongs to a dataset; scans opened are those closed and those open;
        * no uid is given twice, none is newer than the last number;
        * a node that has not taken what it should is being asked or will be; nobody else is.
        """
        recordings = {recording.scan.uid: recording for recording in self.recordings()}
        open_uids = {uid for uid, recording in recordings.items() if not recording.scan.stop_ns}
        begun: list[str] = []
        for dataset in self.datasets():
            starts = [cut.start_ns for cut in dataset.boundaries]
            assert starts == sorted(set(starts)), f"{dataset.id}: cuts {starts}"
            begun += [cut.uid for cut in dataset.boundaries if cut.uid]
            for cut, end in zip(dataset.boundaries, (*starts[1:], 0), strict=True):
                recording = recordings.get(cut.uid)
                if recording is not None:
                    stop = recording.scan.stop_ns
                    assert (recording.scan.start_ns, stop) == (cut.start_ns, end), (
                        f"{cut.uid} ends at {stop}, not {end}"
                    )
        assert len(set(begun)) == len(begun) and open_uids <= set(begun), f"open {open_uids}, begun {begun}"
        assert self.ledger.opened - self.ledger.closed == len(open_uids), f"{self.ledger}, open {open_uids}"
        lanes, timers = set(), set()
        for uid, recording in recordings.items():
            assert int(uid.rpartition("/")[2]) <= self.ledger.last_ms, uid
            timers.add(_timer(OVER, "", uid))
            for node, order in recording.orders.items():
                asked, waits = (
                    bool(self.outstanding_of(Effect, f"{node}/{uid}")),
                    _timer(RETRY, node, uid) in self.timers,
                )
                wanted = not order.known or order.stop_ns != recording.scan.stop_ns
                assert wanted == (asked or waits) and not (asked and waits), f"{node} {uid}: {order}, asked {asked}"
                lanes.add(f"{node}/{uid}")
                timers.add(_timer(RETRY, node, uid))
        orders = (item.effect for item in self.outstanding.values() if not isinstance(item.effect, Notify))
        assert {effect.lane for effect in orders} <= lanes and self.timers.keys() <= timers


def _settings(event: Restarted) -> Settings:
    return msgspec.convert(dict(event.world), Settings, strict=True)


def _timer(kind: str, node: str, uid: str) -> str:
    return f"{kind}|{node}|{uid}"


def _said(observation: Observation) -> str:
    """What a document says, without its own number."""
    fields = msgspec.structs.astuple(msgspec.structs.replace(observation, sequence=-1))
    return repr(fields)


def _named(observation: Observation) -> str:
    return f"{observation.source}, scan {observation.scan}.{observation.subscan}"


def _titled(scan: Scan) -> str:
    return f"{scan.uid} ({scan.dataset_id}, scan {scan.scan}.{scan.subscan})"
