"""Bytes to domain and back: messages, stored records, outcomes; versioned pydantic models."""
