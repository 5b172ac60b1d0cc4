"""What the service tells of itself: metrics, log lines and spans.

What it watches hands over facts and knows nothing of this package: the segmenter tells of each
image, the batcher of each pass; one middleware sees every answer.
"""
