"""The outside world behind ports: Redis, the warehouses, Pub/Sub."""
