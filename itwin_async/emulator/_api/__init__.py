"""The emulated operations: requests, routes, paging, and the handlers, one module for each API."""
