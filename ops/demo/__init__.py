"""`mlfs demo` and `mlfs rehearsal`: nights of the generated league on one machine."""
