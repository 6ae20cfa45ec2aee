"""How objects show themselves in a notebook: a name, and a short table of what they are made of."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

_LONGEST = 160  # characters of a cell


def card(title: str, rows: Mapping[str, Any]) -> str:
    """A table as HTML; rows whose value is None are left out.

    >>> card("Prior", {"dt": 0.05, "weights": None})
    '<div><strong>Prior</strong><table><tr><th style="text-align:left">dt</th><td>0.05</td></tr></table></div>'
    """
    cells = "".join(
        f'<tr><th style="text-align:left">{escape(str(name))}</th><td>{_shown(value)}</td></tr>'
        for name, value in rows.items()
        if value is not None
    )
    return f"<div><strong>{escape(title)}</strong><table>{cells}</table></div>"


def _shown(value: Any) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return escape(text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}...")


def state(labels: Any) -> str:
    """What a state is, in a line: its components with their units, or its grid.

    >>> import nida_kit as nk
    >>> state(nk.Pendulum.labels)
    'angle [rad], momentum [rad s-1]'
    """
    if not hasattr(labels, "components"):
        return str(labels)
    named = [
        name if unit == "1" else f"{name} [{unit}]" for name, unit in zip(labels.components, labels.units, strict=True)
    ]
    return ", ".join(named if len(named) <= 8 else [*named[:3], "...", f"{named[-1]} ({len(named)} components)"])
