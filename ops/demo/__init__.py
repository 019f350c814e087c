"""Played nights: `mlfs demo` in this process, `mlfs rehearse` against a worker in another process."""
