"""Tests of `service`, file by file."""
