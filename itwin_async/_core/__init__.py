"""Values without I/O: operations, URLs, records, and how they are checked, decoded and shown."""
