"""`mlfs bench`: the figures that DESIGN promises, each measured beside its yardstick in the same run.

Everything measured runs in a child process of its own, so peak memory is that of the thing measured alone, and one
benchmark's caches never help another. Other jobs on the machine move absolute figures; the ratio of two things measured
in turns stays, and that is what the targets speak of.
"""
