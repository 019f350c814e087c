"""Settings of a process, read from environment variables and files. `load()` reports all faults at once."""

from worker.errors import BadSettings
from worker.settings.model import PREFIX, Settings, load

__all__ = ["PREFIX", "BadSettings", "Settings", "load"]
