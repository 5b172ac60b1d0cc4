"""What people look at instead of reading: diagrams, overlays, comparisons."""
