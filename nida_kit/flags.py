"""Quality flags: which variables are some, what their values mean, and which of them are good.

A flag stands beside each value. `flag_values` and `flag_meanings` say what it means (CF conventions, section 3.5); in
tables and in many archives its name alone does, and conventions differ: 1 is good and 2 probably good to Argo and
OceanSITES, while 2 is "not evaluated" to QARTOD and good to WOCE. So no value is left out before a user says which
flags are good.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from nida_kit import checks

_DECLARED = {"flag_values", "flag_masks", "flag_meanings"}
_WORD = re.compile(r".*qc|qf|.*flags?")
_NAMES = ("quality", "quality_level")  # "air_quality" is a measurement
_MOST = 12  # distinct flags that are listed


def is_flag(name: Hashable, attrs: Mapping[Hashable, Any]) -> bool:
    """Whether a variable or column seems to tell good values from bad.

    >>> [name for name in ("qc", "TEMP_QC", "status_flag", "quality", "sst", "air_quality") if is_flag(name, {})]
    ['qc', 'TEMP_QC', 'status_flag', 'quality']
    """
    text = str(name).lower()
    words = re.split(r"[^a-z0-9]+", text)
    standard = str(attrs.get("standard_name", "")).endswith(("status_flag", "quality_flag"))
    return bool(_DECLARED & set(attrs)) or standard or text in _NAMES or any(map(_WORD.fullmatch, words))


def among(attrs: Mapping[Hashable, Mapping[Hashable, Any]], ancillary: Sequence[Hashable]) -> list[Hashable]:
    """The names of flags.

    Args:
        attrs: of all variables, by name.
        ancillary: what the values name as belonging to them: flags, if not standard errors.
    """
    kinds = {name: str(said.get("standard_name", "")) for name, said in attrs.items()}
    named = [name for name in ancillary if name in attrs and not kinds[name].endswith("standard_error")]
    return list(dict.fromkeys([*named, *(name for name, said in attrs.items() if is_flag(name, said))]))


def chosen(names: Sequence[Hashable], value: Hashable, ancillary: Sequence[Hashable]) -> Hashable:
    """The flags of a value: those that are named after it, or that it names itself, or the only ones.

    Args:
        names: of all flags.
        value: the name of what was measured.
        ancillary: what it names as belonging to it.

    Raises:
        ValueError: none, or several.
    """
    own = [n for n in names if str(n).lower() == f"{value}_qc".lower() or n in ancillary]
    found = own or list(names)
    if len(found) != 1:
        raise ValueError(
            f"flag= needs one variable of quality flags, and there are {list(names)}: call it {value}_qc, and leave "
            "others out."
        )
    return found[0]


def good(name: Hashable, flags: np.ndarray, attrs: Mapping[Hashable, Any], flag) -> np.ndarray:
    """Where the flags are among some.

    >>> good("qc", np.array([b"1", b"4", b""]), {}, 1)
    array([ True, False, False])

    Args:
        name: of the flags.
        flags: numbers or texts, any shape.
        attrs: of the variable.
        flag: one or several of the flag's values, or of its `flag_meanings`.

    Raises:
        ValueError: flags that it has not, or bit masks.
    """
    meant = _meanings(attrs)
    if "flag_masks" in attrs:
        masks = dict(zip(meant, np.atleast_1d(attrs["flag_masks"]).tolist(), strict=False))
        raise ValueError(
            f"{name} holds bits (flag_masks), which are not supported: flag= takes flags of one value each. Keep the "
            f"good values yourself: obs.assign(value=obs.value.where((obs.{name} & bit) == 0)).drop_vars({name!r}), "
            f"where bit is the mask of bad values, among {masks}."
        )
    values, (codes, distinct) = _values(attrs), _read(flags)
    known = dict(zip(meant, values, strict=False))
    there = values or sorted({x for x in distinct if x != ""}, key=str)
    wanted = [flag] if isinstance(flag, str) or not isinstance(flag, Iterable) else list(flag)
    kept = [known.get(each, _plain(each)) for each in wanted]
    # What is declared is all that there may be; of others a file holds those that came up.
    if unknown := [each for each in kept if each not in there and (values or not set(kept) & set(there))]:
        raise ValueError(f"{name} has no flags {unknown}; it has {known or there}.")
    return np.isin(codes, [k for k, x in enumerate(distinct) if x in kept]).reshape(np.shape(flags))


def told(name: Hashable, flags: np.ndarray, attrs: Mapping[Hashable, Any]) -> str:
    """Flags that are not looked at, in words: which there are, and how the good ones are kept.

    >>> told("qc", np.array([1, 1, 4]), {})[:65]
    "The flags 'qc' are not looked at, and all values are taken: 1 (2 "
    """
    begin = f"The flags {name!r} are not looked at, and all values are taken"
    if "flag_masks" in attrs:
        return f"{begin}: they are bits, {_meanings(attrs)}. Make values NaN that are not good, data.where(...)."
    known, (codes, distinct) = dict(zip(_values(attrs), _meanings(attrs), strict=False)), _read(flags)
    counts: Counter = Counter()
    for k, n in zip(*np.unique(codes[codes >= 0], return_counts=True), strict=True):
        counts[known.get(distinct[k], distinct[k])] += int(n)
    each = [f"{x} ({checks.counted(n, 'time')})" for x, n in sorted(counts.items(), key=lambda item: str(item[0]))]
    there = ", ".join(each) if len(each) <= _MOST else f"{len(each)} different ones"
    if known:
        return (
            f"{begin}: {there}. flag={next(iter(known.values()))!r}, or several of them, keeps values so flagged alone."
        )
    return (
        f"{begin}: {there}. flag=1 keeps values so flagged alone, flag=[1, 2] both: 1 is good and 2 probably good to "
        "Argo and OceanSITES; other conventions differ, so look up yours."
    )


def _meanings(attrs: Mapping[Hashable, Any]) -> list[str]:
    return str(attrs.get("flag_meanings", "")).split()


def _values(attrs: Mapping[Hashable, Any]) -> list:
    return [_plain(flag) for flag in np.atleast_1d(attrs.get("flag_values", [])).tolist()]


def _read(flags: np.ndarray) -> tuple[np.ndarray, list]:
    """The place of each flag among the distinct ones, -1 where there is none, and these."""
    codes, distinct = pd.factorize(np.ravel(np.asarray(flags)))
    distinct = [_plain(flag) for flag in np.asarray(distinct).tolist()]
    empty = [k for k, flag in enumerate(distinct) if flag == ""]
    return np.where(np.isin(codes, empty), -1, codes), distinct


def _plain(flag):
    """A flag as a number or a text; digits are a number."""
    flag = flag.decode() if isinstance(flag, bytes) else flag
    if not isinstance(flag, str):
        return flag
    flag = flag.strip("\0 ")
    return int(flag) if flag.isdecimal() else flag
