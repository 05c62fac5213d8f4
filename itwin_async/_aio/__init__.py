"""asyncio: the loop something belongs to, waits that end early, work in threads."""
