"""What is built and what it is worth: the feature catalogue, the build plan and the quality score. Pure."""
