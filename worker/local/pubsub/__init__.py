"""Pub/Sub server of one machine, with Google's wire format."""
