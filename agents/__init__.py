"""The agents: one folder each, importable as ``socs_bl.agents``."""
