"""A real Bluesky PDS on loopback, for the tests: see `server.py`."""
