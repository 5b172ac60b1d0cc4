"""One run, from the first step to the last, and what it leaves behind."""
