"""Units that users declare, converted exactly to those that a method works in.

The names are those of CF and UDUNITS ("m s-1", "degC", "degrees_north"), read by cf-xarray and pint, which are loaded
only where two names differ.
"""

from __future__ import annotations

import re

NONE = ("", "1")
# Temperatures as people write them: read as a product, "degrees Celsius" would be an angle times a temperature.
_TEMPERATURES = {
    "degC": re.compile(r"^deg(ree)?s?[ _.]*(c|celsius|centigrade)$", re.I),
    "degF": re.compile(r"^deg(ree)?s?[ _.]*(f|fahrenheit)$", re.I),
    "K": re.compile(r"^(deg(ree)?s?[ _.]*k(elvin)?|kelvins?)$", re.I),
}
_CALENDAR = re.compile(r"^(calendar_)?(month|year)s?$")


def conversion(given: str, wanted: str, what: str) -> tuple[float, float]:
    """Factor f and offset o, so that x in the given unit is f x + o in the wanted one.

    >>> conversion("degC", "K", "temperature")
    (1.0, 273.15)

    Args:
        given: the declared unit; "1" is a plain number.
        wanted: that of the method.
        what: it is of, for the error.

    Raises:
        ValueError: one of them is no unit, or they measure different things.
    """
    given, wanted = _name(given), _name(wanted)
    if given == wanted or (given in NONE and wanted in NONE):
        return 1.0, 0.0
    from cf_xarray.units import units
    from pint import PintError

    names = [name if name not in NONE else "dimensionless" for name in (given, wanted)]
    try:
        if any(map(is_calendar, names)) and not all(map(is_calendar, names)):
            raise ValueError("calendar months and years have no fixed length; dates do: give dates")
        at_0, at_1 = (float(units.Quantity(x, names[0]).to(names[1]).magnitude) for x in (0.0, 1.0))
    except (PintError, ValueError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{what} is declared in {given!r}, and {wanted!r} is needed: {error}. Declare what it is measured in, or "
            f"drop the declaration if it is in {wanted!r} already."
        ) from error
    return at_1 - at_0, at_0


def check_agree(given: str, other: str, *where: str) -> None:
    """Raises a ValueError where one quantity is declared in two units, which are told by where each stands."""
    try:
        same = not isinstance(given, str) or conversion(given, other, "It") == (1.0, 0.0)
    except ValueError:
        same = False
    if not same:
        raise ValueError(
            f"{where[0]} says {given!r}, and {where[1]} {other!r}, of the same values: keep the one that they are "
            "measured in, and drop the other (drop_vars('units'), or attrs.pop('units'))."
        )


def _name(unit: str) -> str:
    """A unit by the name that is looked up."""
    unit = unit.strip()
    return next((name for name, pattern in _TEMPERATURES.items() if pattern.match(unit)), unit)


def is_calendar(unit: str) -> bool:
    """Whether a unit of time has no fixed length."""
    return bool(_CALENDAR.match(unit))
