"""Links carry sealed frames between nodes and ingest; they know nothing of the content."""
