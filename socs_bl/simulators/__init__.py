"""The simulated world: processes that speak the wire protocols of the real one, from the outside.

::

    config ──> telescope (schedule: who does what, when) ──> cam (keys and alerts, as CAM's interface writes them) ──> Redis
       └─────> truth     (tones that are injected) ─────────> fengine, signal (SPEAD heaps with noise and tones) ────> multicast
                   └──> truth.json ──> comparison (afterwards, with what the search found)

Nothing here imports a room's logic, and no room knows whether it is simulated. Everything random comes from a seed.
"""
