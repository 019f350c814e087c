"""Settings of a process, read from environment variables and files. `load()` reports all faults at once."""

from worker.settings.model import PREFIX, BadSettings, Settings, load

__all__ = ["PREFIX", "BadSettings", "Settings", "load"]
