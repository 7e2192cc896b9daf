"""Show the pool of instances and who is out of use, and why."""

from socs_bl.client import MatchedClient

coordinator = MatchedClient("coordinator")
status, message, session = coordinator.coordinate.status()
data = session["data"]
for name, array in sorted(data["arrays"].items()):
    print(name, array["freesub_state"], array["recproc_state"], ", ".join(array["subscribed"]) or "no instances")
print(", ".join(f"{count} {duty}" for duty, count in data["pool"].items()))
for instance, reason in data["quarantined"].items():
    print(f"{instance}: {reason}; coordinator.release_instance(instance={instance!r}) puts it back")
