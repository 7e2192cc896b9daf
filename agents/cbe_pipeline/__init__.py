"""Node of the correlator back end."""
