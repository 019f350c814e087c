"""How many connections a listener of this process may hold, by the number of files that the process may open."""

import resource

CONNECTIONS_MAX = 1000
# Two HTTP listeners and the local bus take three quarters at most; the rest is for the store, the warehouse and logs.
SHARE_OF_FILES = 4


def connections_max() -> int:
    """Return the limit of one listener."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return CONNECTIONS_MAX
    return min(CONNECTIONS_MAX, max(files // SHARE_OF_FILES, 1))
