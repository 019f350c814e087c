"""The admin command line and the operational data: dashboards, alerts, deployment."""
