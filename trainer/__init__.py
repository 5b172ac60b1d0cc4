"""Fits a network to a folder of labelled images and exports checkpoints: `python -m trainer`."""
