"""Message bus on Google Pub/Sub."""
