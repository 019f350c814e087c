"""Commands for the person on call and for operation."""
