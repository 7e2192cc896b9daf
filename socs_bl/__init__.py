"""socs_bl: OCS agents that run the back end of an observatory.

Rooms hold the logic (``commensal``, ``capture``, ``search`` ...), ``core`` the words they share,
``agentkit`` the shell every agent lives in, ``agents`` the agents themselves. ``docs/architecture.rst``
draws the house.
"""

__version__ = "0.1.0"
