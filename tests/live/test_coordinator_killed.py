"""kill -9 of the coordinator in every state: OCS's HostManager starts it again, and it goes on as if nothing had been."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from socs_bl.services.observatory import Observatory
from tests.harness.live import wait_until
from tests.live.subarray import ARRAY, INSTANCES, Subarray

pytestmark = [pytest.mark.live, pytest.mark.network, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def subarray(observatory: Observatory) -> Iterator[Subarray]:
    """The subarray, with F-engines that send."""
    status, text, _ = observatory.operator.request("telescope", "start", "fengines")
    assert status == 0, text
    subarray = Subarray(observatory)
    yield subarray
    observatory.operator.request("telescope", "stop", "fengines")
    wait_until(
        lambda: observatory.operator.request("telescope", "status", "fengines")[2]["status"] == "done",
        60,
        what="the end of the F-engines",
    )
    subarray.close()


def cycle(subarray: Subarray, kill: bool) -> list[tuple[str, str]]:
    """One cycle, perhaps with a kill in each of its states; returns the gateway log."""
    before = int(subarray.coordinate()["completed_runs"])

    def killed_in(*states: str) -> None:
        subarray.wait_for(*states)
        if kill:
            found = subarray.kill()
            # A recording and a search go on while nobody looks, and may be over by now.
            assert set(states) <= set(found) or states[0] in ("RECORD", "PROCESS"), f"{states} became {found}"

    with subarray.log() as log:
        subarray.ask("send_event", array=ARRAY, event="configure")
        killed_in("CONFIGURING", "READY")
        subarray.configure()
        killed_in("SUBSCRIBED", "READY")
        subarray.track()
        killed_in("RECORD")
        killed_in("PROCESS")
        wait_until(lambda: subarray.coordinate().get("completed_runs") == before + 1, 120, what="the end of the run")
        subarray.wait_for("SUBSCRIBED", "READY")
        subarray.deconfigure()
    return log.normalised()


def test_killed_in_waiting(subarray: Subarray) -> None:
    """A subarray that waits for people still does, nobody is commanded anything, and a reset lets it out."""
    subarray.configure()
    subarray.redis.set(f"{ARRAY}:subarray_1_script_proposal_id", "'EXT-20220504-DM-01'")
    subarray.track()
    subarray.telescope("stop_track", array=ARRAY)
    subarray.wait_for("WAITING")
    with subarray.log() as log:
        assert subarray.kill() == ("SUBSCRIBED", "WAITING")
        assert log.messages == []
    assert [len(subarray.redis.lrange(f"{name}:preserved", 0, -1)) for name in INSTANCES] == [1, 1]
    subarray.ask("reset_array", array=ARRAY)
    subarray.wait_for("SUBSCRIBED", "READY")
    subarray.deconfigure()


def test_killed_in_error(subarray: Subarray) -> None:
    """A subarray in which nobody recorded stays in ERROR, its instances in quarantine, until people let them out."""
    subarray.configure()
    subarray.track()
    for name in INSTANCES:  # somebody else stops the recorders before they have begun
        subarray.redis.publish(f"bluse://{name}/set", "PKTSTART=0")
    subarray.wait_for("ERROR")
    with subarray.log() as log:
        assert subarray.kill() == ("SUBSCRIBED", "ERROR")
        assert log.messages == []
    assert set(subarray.coordinate()["quarantined"]) == set(INSTANCES)
    for name in INSTANCES:
        subarray.ask("release_instance", instance=name)
    subarray.ask("reset_array", array=ARRAY)
    subarray.wait_for("READY")
    subarray.deconfigure()


def test_killed_in_every_state_of_a_cycle(subarray: Subarray) -> None:
    """The ordered log of all gateway messages equals that of a cycle without kills, and every run has its two results.

    The coordinator is killed four times: in CONFIGURING, SUBSCRIBED, RECORD and PROCESS.
    """
    results = subarray.redis.xlen("socs_bl:results")
    undisturbed = cycle(subarray, kill=False)
    disturbed = cycle(subarray, kill=True)
    assert len(undisturbed) > 50
    assert disturbed == undisturbed
    assert subarray.coordinate()["quarantined"] == {}
    new = subarray.redis.xrevrange("socs_bl:results", count=subarray.redis.xlen("socs_bl:results") - results)
    # An analyzer that is asked again, by a coordinator that was killed before it knew, tells its result again.
    assert len({(fields["run"], fields["instance"]) for _, fields in new}) == 4
    assert {fields["code1"] for _, fields in new} == {"0"}
