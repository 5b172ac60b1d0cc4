"""Timings, always of several ways of doing one thing in one run, side by side."""
