"""Tests of the serving benchmark."""
