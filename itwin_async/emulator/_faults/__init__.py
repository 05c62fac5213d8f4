"""Faults: what they are, which requests meet them, and how they change a response."""
