"""Show what one instance receives and records."""

from socs_bl.client import MatchedClient

recorder = MatchedClient("recorder-blpn64-0")
data = recorder.record.status().session["data"]
print(data["instance"], data["state"], "for", data["allocated"] or "nobody")
print("heaps", data["heaps"])
print("writing", data["file"] or "nothing")
