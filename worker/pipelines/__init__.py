"""Pipeline definitions: files, checks of their SQL, the shipped pipeline."""
