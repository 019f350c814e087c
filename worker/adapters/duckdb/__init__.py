"""Warehouse in a DuckDB file."""
