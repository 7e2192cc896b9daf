"""Config listener: makes and activates the configurations whose paths are written into a named pipe."""
