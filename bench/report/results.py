"""The results, and which picture is drawn from which of them."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
MEASURED = ROOT / "docs" / "measured"
IMAGES = ROOT / "docs" / "img"
NAMES = ("build", "intake", "workers", "latency", "deadline", "footprint", "profile", "peers")

# Picture -> the results that it shows.
PICTURES: Mapping[str, str] = {
    "performance-growth": "build",
    "performance-deadline": "deadline",
    "performance-workers": "workers",
    "performance-parts": "profile",
    "performance-peers": "peers",
}

Results = Mapping[str, Any]


def path_of(name: str) -> Path:
    """Give the file of one result."""
    return MEASURED / f"{name}.json"


def read_results() -> Results:
    """Read all results, by name."""
    return {name: json.loads(path_of(name).read_text(encoding="utf-8")) for name in NAMES}


def fingerprint(name: str) -> str:
    """Give what a picture carries to say which figures it shows."""
    return f"{name} {hashlib.sha256(path_of(name).read_bytes()).hexdigest()[:16]}"
