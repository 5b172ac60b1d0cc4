"""`python -m tests.fuzz`: real photographs, damaged, through the whole service."""
