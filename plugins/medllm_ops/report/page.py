"""What every page of the reports shares: one file that needs nothing but itself, and figures as people write them."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

ABSENT = "–"
_FOLDER = Path(__file__).parent


def render_page(
    template: Path,
    context: Mapping[str, Any],
    filters: Mapping[str, Callable[..., Any]] | None = None,
    styles: tuple[Path, ...] = (),
    finalize: Callable[[Any], Any] | None = None,
) -> str:
    """Return a page that extends ``page.html.jinja``. Whatever a model, a file or a user wrote is text in it.

    :param styles: more of it, after the style that all pages share.
    :param finalize: what every value goes through before it is escaped.
    """
    from plotly.offline import get_plotlyjs

    environment = Environment(
        loader=FileSystemLoader([template.parent, _FOLDER]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=finalize,
    )
    environment.filters |= {
        "count": count,
        "decimal": decimal,
        "scientific": scientific,
        "duration": duration,
        "moment": moment,
        "plain": plain,
        **(filters or {}),
    }
    scripts = {"plotly": get_plotlyjs(), "draw": (_FOLDER / "draw.js").read_text(encoding="utf-8")}
    style = "".join(path.read_text(encoding="utf-8") for path in (_FOLDER / "report.css", *styles))
    return environment.get_template(template.name).render(
        **context,
        style=Markup(style),
        scripts={name: Markup(script) for name, script in scripts.items()},
        policy=policy(scripts),
    )


def policy(scripts: Mapping[str, str]) -> str:
    """A content security policy that lets these scripts run and no other, and nothing be fetched."""
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" for script in scripts.values()
    )
    return f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data:; base-uri 'none'"


def count(value: int | None) -> str:
    """``12,345``."""
    return ABSENT if value is None else f"{value:,}"


def decimal(value: float | None, digits: int = 3, signed: bool = False) -> str:
    """``2.718``; with a true minus sign."""
    if value is None:
        return ABSENT
    return f"{value:{'+' if signed else ''},.{digits}f}".replace("-", "−")


def scientific(value: float | None) -> str:
    """``1.2e−07``; 0 is exact."""
    return ABSENT if value is None else "0" if value == 0 else f"{value:.2g}".replace("-", "−")


def duration(seconds: float | None) -> str:
    """``0.4 s``, ``12 s``, ``3 min 05 s``, ``2 h 07 min``."""
    if seconds is None:
        return ABSENT
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if not minutes:
        return f"{rest} s"
    hours, minutes_left = divmod(minutes, 60)
    return f"{hours} h {minutes_left:02d} min" if hours else f"{minutes} min {rest:02d} s"


def moment(text: str | None) -> str:
    """An ISO 8601 time as a person writes it, with its offset from UTC."""
    if text is None:
        return ABSENT
    return datetime.fromisoformat(text).strftime("%d %B %Y, %H:%M %z").strip()


def plain(value: Any) -> str:
    """A parameter's value in words."""
    if value is None or value in ("", []):
        return ABSENT
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(str(each) for each in value)
    return str(value)
