"""Reports: daily, incident, weekly, cost, lineage."""
