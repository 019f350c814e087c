"""State store on Redis or Valkey.

The client library imports its asyncio half and OpenTelemetry's metrics with itself. The product uses neither, and both
together cost more than the rest of the library, in each `mlfs status` too. So this package imports the library without
them, before any module below asks for it; a later import of the left out modules works as ever.
"""

import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any


def _import_redis() -> None:
    spec = find_spec("redis")
    if spec is None or spec.origin is None or "redis" in sys.modules:
        return
    # The synchronous half imports some modules below `redis.asyncio`, so the stand-in is a package.
    stand_in = ModuleType("redis.asyncio")
    stand_in.__path__ = [str(Path(spec.origin).with_name("asyncio"))]
    # None in the place of a module means: cannot be imported.
    left_out: dict[str, Any] = {"redis.asyncio": stand_in, "opentelemetry.metrics": None}
    absent = {name: module for name, module in left_out.items() if name not in sys.modules}
    sys.modules.update(absent)
    try:
        import redis  # noqa: PLC0415
    finally:
        for name in absent:
            del sys.modules[name]
    vars(redis).pop("asyncio", None)


_import_redis()
