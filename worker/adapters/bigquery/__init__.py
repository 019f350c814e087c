"""Warehouse on BigQuery."""
