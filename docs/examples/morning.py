"""Give the subarray up, and make sure that nobody works any more and nobody is out of use."""

import sys

from socs_bl.client import MatchedClient

ARRAY = "array_1"

telescope = MatchedClient("telescope")
coordinator = MatchedClient("coordinator")

telescope.deconfigure(array=ARRAY)
telescope.fengines.stop()
for session in coordinator.watch("coordinate"):
    data = session["data"]
    if data["arrays"][ARRAY]["recproc_state"] in ("WAITING", "ERROR"):
        coordinator.reset_array(array=ARRAY)
    busy = sum(data["pool"][duty] for duty in ("ready", "recording", "processing"))
    if not busy:
        break
print(f"{data['completed_runs']} recordings searched, {data['pool']['free']} instances free")
if data["quarantined"]:
    sys.exit(f"still out of use: {data['quarantined']}")
