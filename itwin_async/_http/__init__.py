"""One request: token, limiter slot, sending, retries, errors, and the life of a session."""
