"""Generated league: Phase 3 and Phase 4 tables of sample nights."""
