"""What an observatory stands on: a WAMP router, Redis, and the processes of one machine.

::

    socs-bl up -> observatory ─┬─ redis_server   (embedded, or a site's own by URL)
                               ├─ crossbar_node  (embedded, or a site's own by URL)
                               └─ HostManager ── agents

    process        children that die with their parent, known exactly by pid and start time
    run_dir        what a run directory remembers; orphans of a killed observatory
    site           the site config, with places for what is known only at run time
    operators      calls to agents over HTTP, each with a time-out
    doctor         can this machine run an observatory?
    redis_journal  the journal protocol of core on one Redis Lua script
    subscriber     listening to Redis from a thread

Nothing here knows what the agents do.
"""
