"""Comparisons that need more than the product: not part of the wheel."""
