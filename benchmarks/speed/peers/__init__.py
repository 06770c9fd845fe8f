"""One small script per peer, each run by an interpreter of its own; see `wire.py`."""
