"""Queries beyond one flat SELECT block: every operator in DuckDB, every uncertainty as an event."""
