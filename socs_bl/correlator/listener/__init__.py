"""Configurations by a named pipe: who writes a path into it has that configuration made and activated at once.

Flow, with the modules that do each step::

    pipe (lines) -> wire (paths) -> machine: a name from the time, and the order of things at each node
        -> create_configuration and activate_configuration at the nodes (effects, by the agent)
"""
