"""Builds of one analysis date: claim, steps, queue, upstream checks, comparison and deletion of generations."""
