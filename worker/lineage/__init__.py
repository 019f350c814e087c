"""Lineage: of a row, of a cell, and as OpenLineage events."""
