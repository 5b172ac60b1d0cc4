"""From a folder of labelled images to batches: reading, checking, varying, dividing."""
