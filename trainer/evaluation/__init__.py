"""What a network is worth on a split: every figure, and which images are the worst."""
