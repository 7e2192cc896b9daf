"""Take a recorder away, record without it, and bring it back."""

import sys

from socs_bl.client import MatchedClient

ARRAY, BROKEN = "array_1", "blpn64/1"

telescope = MatchedClient("telescope")
coordinator = MatchedClient("coordinator")
recorder = MatchedClient(f"recorder-{BROKEN.replace('/', '-')}")

before = coordinator.coordinate.status().session["data"]["completed_runs"]
recorder.record.stop()
recorder.record.wait()
print(BROKEN, "is out of order")
telescope.track(array=ARRAY, target="3C 286")
said = ""
for session in coordinator.watch("coordinate"):
    data = session["data"]
    array = data["arrays"][ARRAY]
    line = f"{array['recproc_state']:<8} {', '.join(array['recording'] or array['processing'])}"
    if line != said:
        print(line, flush=True)
        said = line
    if array["recproc_state"] == "ERROR":
        sys.exit(f"{ARRAY} is in ERROR: {data['quarantined']}")
    if data["completed_runs"] > before:
        break
telescope.stop_track(array=ARRAY)
print(f"{BROKEN}: {data['quarantined'][BROKEN]}")

recorder.record.start()
status, message, session = coordinator.release_instance(instance=BROKEN)
print("released" if session["success"] else message)
