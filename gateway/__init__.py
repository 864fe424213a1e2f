"""The daemon. ingest.py tells the whole story of a frame; store.py is where both sides meet."""
