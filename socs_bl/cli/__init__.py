"""The ``socs-bl`` command: one module for each of its subcommands, each with `add_parser`."""
