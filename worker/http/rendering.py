"""Rendering of the pages: escaped texts, and a content security policy for the own style and script only."""

import base64
import hashlib
import re
from datetime import datetime
from importlib import resources
from zoneinfo import ZoneInfo

from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from worker.date_text import distance, in_zone, wall_clock
from worker.finding_text import evidence_of

# Control characters, and characters with an effect on the direction of a text.
_UNSEEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")


def _file(name: str) -> str:
    return resources.files("worker.http").joinpath("templates", name).read_text("utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _seen(value: object) -> object:
    """Replace invisible characters of a text by a visible mark."""
    return (
        value
        if isinstance(value, Markup) or not isinstance(value, str)
        else _UNSEEN.sub("\N{REPLACEMENT CHARACTER}", value)
    )


class Moments:
    """Texts of instants on a page."""

    def __init__(self, now: datetime, zone: ZoneInfo) -> None:
        """Store the present instant *now*, UTC, and the zone of the wall clock."""
        self.now = now
        self._zone = zone

    @property
    def place(self) -> str:
        """Name of the place with this wall clock: `New York`."""
        return self._zone.key.rpartition("/")[2].replace("_", " ")

    def clock(self, at: datetime) -> str:
        """Return the wall clock; add the day if the day is not today."""
        return wall_clock(at, self.now, self._zone)

    def hour(self, at: datetime) -> str:
        """Return hour and minute."""
        return f"{at.astimezone(self._zone):%H:%M}"

    def second(self, at: datetime) -> str:
        """Return the wall clock with seconds; add the day if the day is not today."""
        local = at.astimezone(self._zone)
        same_day = local.date() == self.now.astimezone(self._zone).date()
        return f"{local:%H:%M:%S %Z}" if same_day else f"{local:%Y-%m-%d %H:%M:%S %Z}"

    def told(self, text: str) -> str:
        """Return a stored text with the instants of the text on the wall clock of the page."""
        return in_zone(text, self._zone)

    def relative(self, at: datetime) -> str:
        """Return the distance from now: `in 12 min`, `3 h ago`."""
        return distance(at - self.now)


class Pages:
    """Templates and common headers of all pages."""

    def __init__(self) -> None:
        self._style, self._script = _file("page.css"), _file("page.js")
        self._templates = Environment(
            loader=PackageLoader("worker.http"),
            autoescape=True,
            undefined=StrictUndefined,
            finalize=_seen,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.globals["evidence"] = evidence_of
        self.headers = {
            "Cache-Control": "no-store",
            "Content-Security-Policy": "; ".join(
                (
                    "default-src 'none'",
                    f"script-src {_hash(self._script)}",
                    f"style-src {_hash(self._style)}",
                    "img-src data:",
                    "connect-src 'self'",
                    "form-action 'self'",
                    "base-uri 'none'",
                    "frame-ancestors 'none'",
                )
            ),
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cross-Origin-Resource-Policy": "same-origin",
            # With `no-referrer`, browsers would send a form with the origin `null`.
            "Referrer-Policy": "same-origin",
            "X-Content-Type-Options": "nosniff",
        }

    def render(self, name: str, moments: Moments, *, status: int = 200, **facts: object) -> HTMLResponse:
        """Render the template *name*.

        Args:
            name: A file of `worker/http/templates`.
            moments: Texts of instants.
            status: HTTP status.
            facts: Values for the template. Texts are escaped.
        """
        text = self._templates.get_template(name).render(
            **facts,
            moments=moments,
            style=Markup(self._style),  # noqa: S704 - a file of this package
            script=Markup(self._script),  # noqa: S704 - a file of this package
        )
        return HTMLResponse(text, status, headers=self.headers)
