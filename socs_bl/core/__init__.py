"""The words all rooms share: machines, journals, clock, errors, names, configuration. Imports nothing of ours."""
