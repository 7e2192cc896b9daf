"""Commensal observing: who records and searches for which subarray, and when.

::

    CAM --alerts--> [FREE -> CONFIGURING -> SUBSCRIBED]  --gateway keys--> instance recorders (DAQs)
                          |  claims from the one pool
                    [READY -> RECORD -> PROCESS -> READY] --StartProcessing--> instance analyzers
                          ^  PKTIDX read back, timers              results stream --'

One machine (`CommensalMachine`) holds the pool and both state machines of every subarray; only the pool changes
owners. `model` is what it remembers, `projection` what its decisions look like in Redis, `wire` and `metadata` what
others write, `allocation` and `timing` the arithmetic, `effects` what touches the world.
"""

from socs_bl.commensal.config import CommensalConfig
from socs_bl.commensal.machine import CommensalMachine

__all__ = ["CommensalConfig", "CommensalMachine"]
