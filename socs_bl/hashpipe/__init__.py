"""The hashpipe-Redis gateway: how everybody talks to the recording process of an instance.

::

    publisher --KEY=value--> bluse://host/n/set, bluse:///set, bluse:<group>///set --> Gateway --> status buffer
    publisher --join=..., leave=..., delay=..., quit--> bluse://host/n/gateway ------> Gateway
    status buffer --refreshed every `delay` s, expires after 3 x delay--> hash bluse://host/n/status --> readers

`wire` has the names and text formats and nothing else; `gateway.Gateway` is the instance's side on a real Redis.
A dead gateway is a missing status hash. PUBLISH is delivered at most once: who must know that a key arrived reads the
status hash back.
"""
