"""Executor listener: has every scan that the observation executor announces recorded."""
