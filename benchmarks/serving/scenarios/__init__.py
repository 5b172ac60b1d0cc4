"""One question a file; each asks it of running servers and answers with a table."""
