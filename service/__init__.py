"""Serves a checkpoint over HTTP: `python -m service`."""
