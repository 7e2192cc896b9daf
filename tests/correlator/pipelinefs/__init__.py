"""Tests of pipelinefs without WAMP: the tree as a class, and mounted."""
