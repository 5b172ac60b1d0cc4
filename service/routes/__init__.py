"""HTTP routes; each only awaits and hands on."""
