"""Interventions of people: replay, cancel and retract, with the audit and the log of repeated requests."""
