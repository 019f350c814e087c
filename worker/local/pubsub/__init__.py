"""Pub/Sub server for a single machine, with Google's wire format."""
