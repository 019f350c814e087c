"""A BigQuery server for tests: speaks the wire format of Google, runs statements on DuckDB. See ADR 0011."""
