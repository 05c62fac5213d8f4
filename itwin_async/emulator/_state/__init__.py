"""The data of the emulated platform: seeded records, and what was changed since."""
