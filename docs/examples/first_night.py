"""Observe one target with one subarray: configure, track, watch it being recorded and searched, deconfigure."""

import sys

from socs_bl.client import MatchedClient

ARRAY = "array_1"

telescope = MatchedClient("telescope")
coordinator = MatchedClient("coordinator")


def do(reply) -> None:
    """Stop with the agent's own words when it has refused or failed."""
    status, message, session = reply
    if status != 0 or (session.get("status") == "done" and not session.get("success")):
        sys.exit(f"{session.get('op_name', 'request')}: {message} {session.get('messages', [])[-2:]}")


before = coordinator.coordinate.status().session["data"]["completed_runs"]
do(telescope.fengines.start())
try:
    do(telescope.configure(array=ARRAY))
    do(telescope.track(array=ARRAY, target="3C 286"))
    said = ""
    for session in coordinator.watch("coordinate"):
        data = session["data"]
        array = data["arrays"][ARRAY]
        line = f"{array['freesub_state']:<12} {array['recproc_state']:<8} {array['obsid']} {array['target']}"
        if line != said:
            print(line, flush=True)
            said = line
        if array["recproc_state"] == "ERROR":
            sys.exit(f"{ARRAY} is in ERROR; see what the coordinator says: {data['quarantined']}")
        if data["completed_runs"] > before:
            break
    do(telescope.stop_track(array=ARRAY))
finally:
    do(telescope.deconfigure(array=ARRAY))
    do(telescope.fengines.stop())
print("recorded and searched")
