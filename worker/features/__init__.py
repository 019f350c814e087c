"""Feature catalogue, build plan and quality score. Pure."""
