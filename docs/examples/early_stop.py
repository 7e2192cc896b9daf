"""Leave a target before its recording is over, and see what becomes of it."""

import sys
import time

from socs_bl.client import MatchedClient

ARRAY = "array_1"

telescope = MatchedClient("telescope")
coordinator = MatchedClient("coordinator")


def wait_for(state: str) -> dict:
    """The subarray in a recording state."""
    for session in coordinator.watch("coordinate"):
        array = session["data"]["arrays"][ARRAY]
        if array["recproc_state"] == "ERROR":
            sys.exit(f"{ARRAY} is in ERROR; see what the coordinator says: {session['data']['quarantined']}")
        if array["recproc_state"] == state:
            return array
    raise SystemExit("the coordinator has stopped")


telescope.track(array=ARRAY, target="Hyd A")
array = wait_for("RECORD")
obsid, members = array["obsid"], array["recording"]
recorder = MatchedClient(f"recorder-{members[0].replace('/', '-')}")
while recorder.record.status().session["data"]["state"] != "recording":  # until PKTSTART
    time.sleep(0.2)
print("recording", obsid)
telescope.stop_track(array=ARRAY)
wait_for("READY")
for name in members:
    queue = MatchedClient(f"analyzer-{name.replace('/', '-')}").queue_status().session["data"]
    (report,) = [run for run in queue["reported"] if run["run"] == obsid]
    print(f"{name}: {report['reason']}, code {report['code']}")
