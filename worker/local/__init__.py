"""Replacements of cloud services on a single machine: Pub/Sub server, embedded Valkey, sample data."""
