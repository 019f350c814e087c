"""Foresight: what the arrivals of earlier nights say about a night, and about other rules."""
