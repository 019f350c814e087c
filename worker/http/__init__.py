"""The HTTP side: health, dates, interventions, push and tick."""
