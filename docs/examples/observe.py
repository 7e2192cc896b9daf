"""Play the telescope's schedule, one cycle of it, and show how far it is."""

from socs_bl.client import MatchedClient

telescope = MatchedClient("telescope")
status, message, session = telescope.observe.start(cycles=1)
print(message)
for session in telescope.watch("observe"):
    progress = session["data"].get("progress")
    if progress:
        print(f"{progress['step']}: {progress['done']:.0f} of {progress['total']:.0f} {progress['unit']}", flush=True)
print("injected signals:", session["data"].get("truth"))
