"""`mlfs bench`: the figures promised in DESIGN, each figure measured beside a yardstick in the same run.

Every measured task runs in a separate child process: the peak memory is the peak of this task alone, and no task uses
the warm caches of another task. Other jobs on the machine change absolute figures. The ratio of two figures measured in
turns hardly changes, so the targets are ratios where possible.
"""
