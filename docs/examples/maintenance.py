"""Take an instance out of service for maintenance, and put it back."""

from socs_bl.client import MatchedClient

INSTANCE = "blpn64/1"

coordinator = MatchedClient("coordinator")
status, message, session = coordinator.drain(instance=INSTANCE, reason="a new disk")
print(INSTANCE, "is", session["data"]["duties"][INSTANCE])
# What works is drained when its run has ended; here the work would be done.
for session in coordinator.watch("coordinate"):
    if session["data"]["pool"]["drained"]:
        break
status, message, session = coordinator.undrain(instance=INSTANCE)
print(INSTANCE, "is", session["data"]["duties"][INSTANCE])
