"""Tests of what the service tells of itself."""
