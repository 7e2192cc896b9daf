"""Have a subarray built, and show which instance has been given to it."""

import sys
import time

from socs_bl.client import MatchedClient

ARRAY = "array_1"

telescope = MatchedClient("telescope")
coordinator = MatchedClient("coordinator")

telescope.fengines.start()
status, message, session = telescope.configure(array=ARRAY)
if status != 0 or not session["success"]:
    sys.exit(f"configure: {message} {session.get('messages', [])[-2:]}")
for session in coordinator.watch("coordinate"):
    array = session["data"]["arrays"][ARRAY]
    if array["freesub_state"] == "SUBSCRIBED":
        break
print(f"{ARRAY} has {len(array['subscribed'])} of {array['requested']} instances: {', '.join(array['subscribed'])}")

for name in array["subscribed"]:
    recorder = MatchedClient(f"recorder-{name.replace('/', '-')}")
    while (data := recorder.record.status().session["data"])["state"] == "idle":
        time.sleep(0.5)
    print(name, "receives", data["groups"])
