"""Tests of the HTTP routes, file by file."""
