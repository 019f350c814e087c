"""Reports of the `mlfs` command: daily, incident, weekly, cost, lineage."""
