"""What stands in for the cloud on one machine: Pub/Sub server, embedded Valkey, sample data."""
