"""What users give is checked here: each question is asked by one function, with one text.

An answer is a plain Python value or a float64 tensor, so numpy's numbers serve as well as Python's own. True and False
are no numbers, and neither are NaN and infinity. Everything else is a ValueError: it says what came, what was expected
and what to try. Torch is imported by the functions that need it: without it there are numbers and names to check, too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Integral, Real
from types import UnionType
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch
    from jaxtyping import Float
    from torch import Tensor

LARGEST = 2**63 - 1  # that an int64 holds


def refused(name: str, value, expected: str, advice: str) -> ValueError:
    """The one form of all errors here."""
    shown = " ".join(repr(value).split())  # arrays are shown on several lines
    if len(shown) > 200:
        shown = f"{shown[:197]}..."
    return ValueError(f"{name}={shown} must be {expected}. {advice}")


def sentence(said: object) -> str:
    """What others say, with one mark at its end.

    >>> sentence("is it a root of one?"), sentence(IndexError("no such axis"))
    ('is it a root of one?', 'no such axis.')
    """
    text = str(said).rstrip(" .")
    return text if text.endswith(("?", "!")) else f"{text}."


def counted(n: int, one: str, several: str = "") -> str:
    """A number and what there are so many of.

    >>> counted(1, "value"), counted(1200, "value"), counted(1, "value lies", "values lie")
    ('1 value', '1,200 values', '1 value lies')
    """
    return f"{int(n):,} {one if n == 1 else several or f'{one}s'}"


def in_windows(windows: Tensor, said: str) -> str:
    """A sentence about some windows, that begins with how many they are; where there is one window alone, it need not.

    >>> import torch
    >>> in_windows(torch.tensor([True, False]), "it is so.")
    'In 1 of 2 windows it is so.'
    >>> in_windows(torch.tensor([True]), "it is so.")
    'It is so.'
    """
    if windows.numel() == 1:
        return f"{said[0].upper()}{said[1:]}"
    return f"In {int(windows.sum())} of {windows.numel()} windows {said}"


def within_reach(steps: int, most: int, what: str, more: str = "") -> None:
    """Raises a ValueError where windows are longer than a method knows.

    Args:
        steps: of the windows.
        most: that it knows.
        what: what is said of that, "the network takes windows of up to", say.
        more: another way out.
    """
    if steps > most:
        raise ValueError(
            f"The windows have {steps} steps, and {what} {most}: nk.Cycled(method, window={most}) takes a long record "
            f"window by window; nk.grid(..., steps={most}), or obs.isel(time=slice({most})), keeps the first steps"
            f"{more}."
        )


# Functions of users


def called(what: str, function: Callable, *given, advice: str = "") -> Any:
    """What a user's function gives; whatever it raises becomes a ValueError that says so.

    >>> called("The operator fails", lambda x: x["a"], {}, advice="Its components are x[..., 0], ...")
    Traceback (most recent call last):
    ValueError: The operator fails: KeyError 'a'. Its components are x[..., 0], ...

    Args:
        what: how the error begins.
        function: the user's.
        given: its arguments.
        advice: what to try.
    """
    try:
        return function(*given)
    except Exception as error:  # only the user knows which
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__} "
        raise ValueError(f"{what}: {sentence(f'{kind}{error}')} {advice}".rstrip()) from error


# Whole numbers


def count(name: str, value, least: int, most: int = LARGEST) -> int:
    """A whole number within bounds.

    >>> count("members", np.int64(20), 2)
    20
    """
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    if not whole or not least <= int(value) <= most:
        bounds = f"of at least {least}, below 2^63" if most == LARGEST else f"from {least} to {most}"
        raise refused(name, value, f"a whole number {bounds}", f"Try {name}={least}.")
    return int(value)


def counts(name: str, values, least: int, most: int = LARGEST) -> list[int]:
    """Any number of whole numbers within bounds."""
    return [count(name, value, least, most) for value in several(name, values)]


def seed(value) -> int:
    """What random numbers start from."""
    return count("seed", value, 0)


def device(value) -> torch.device:
    """Where to compute: a device that this machine has."""
    import torch

    try:
        found = torch.device(value)
        torch.empty(0, device=found)
    except (RuntimeError, TypeError, AssertionError, NotImplementedError) as error:
        raise refused("device", value, "a device that torch finds here", 'Try device="cpu".') from error
    return found


# Numbers


def _real(value) -> float:
    """The number as a float; NaN, which no bound admits, where there is none."""
    if not isinstance(value, Real) or isinstance(value, bool):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.inf
    except TypeError:  # numpy counts spans of time among whole numbers
        return math.nan


def finite(name: str, value) -> float:
    """Any finite number."""
    number = _real(value)
    if not math.isfinite(number):
        raise refused(name, value, "a finite number", f"Try {name}=0.0.")
    return number


def number(name: str, value) -> float:
    """A finite number, not negative."""
    found = _real(value)
    if not 0 <= found < math.inf:
        raise refused(name, value, "a finite number, not negative", f"Try {name}=0.0.")
    return found


def positive(name: str, value) -> float:
    """A positive finite number."""
    found = _real(value)
    if not 0 < found < math.inf:
        raise refused(name, value, "a positive, finite number", f"Try {name}=1.0.")
    return found


def within(name: str, value, low: float, high: float, advice: str = "") -> float:
    """A number from `low` to `high`."""
    found = _real(value)
    if not low <= found <= high:
        raise refused(name, value, f"a number from {low:g} to {high:g}", advice or f"Try {name}={low:g}.")
    return found


def share(name: str, value) -> float:
    """A part of a whole, from 0 to 1."""
    return within(name, value, 0.0, 1.0)


# Vectors and matrices


def _holds_flags(value) -> bool:
    """Whether a nested list holds True or False, which numpy would turn into 1 or 0."""
    if isinstance(value, list | tuple):
        return any(_holds_flags(each) for each in value)
    return isinstance(value, bool | np.bool_)


def numbers(name: str, value, expected: str = "an array of numbers") -> Tensor:
    """An array of numbers of any shape, in float64; NaN and infinity are left to who asks."""
    import torch

    advice = "Try a list of numbers, a numpy array or a tensor."
    unmasked(name, value)
    if isinstance(value, torch.Tensor):
        if value.dtype == torch.bool or value.is_complex():
            raise refused(name, value, expected, advice)
        return value.to_dense().to(torch.float64)
    try:
        array = np.asarray(value)
    except (TypeError, ValueError) as error:  # lists of different lengths, say
        raise refused(name, value, expected, f"{sentence(error)} {advice}") from error
    if array.dtype.kind not in "iuf" or _holds_flags(value):
        raise refused(name, value, expected, advice)
    return torch.from_numpy(array.astype(np.float64))


def unmasked(name: str, value) -> None:
    """No array of which some values are masked, which would count like any others."""
    if np.ma.is_masked(value):
        missing = int(np.ma.getmaskarray(value).sum())
        raise ValueError(
            f"{name} has {missing} masked values, and each is needed: give numbers in their places, "
            f"{name}.filled(...), or leave these out."
        )


def array(name: str, value, expected: str = "an array of numbers") -> np.ndarray:
    """The same for numpy, which follows no gradients and is in main memory."""
    return numbers(name, value, expected).detach().cpu().numpy()


def doubtful(name: str, values: np.ndarray) -> str:
    """What to say of numbers so far from all others that they must be fill values or in another unit; "" if none.

    Args:
        name: of the values.
        values: `(..., n)`, NaN where missing; each of the n is looked at by itself.
    """
    values = values.reshape(-1, values.shape[-1])
    values = values[:, np.isfinite(values).any(0)]
    if not values.size:
        return ""
    low, middle, high = np.nanquantile(values, [0.25, 0.5, 0.75], axis=0)
    far = values[np.abs(values - middle) > 50 * np.where(high > low, high - low, np.inf)]
    if not far.size:
        return ""
    if far.size == 1:
        what, asked = f"a value, {far[0]:g},", "Is it a fill value (make it NaN)"
    else:
        what, asked = f"{far.size} values, {far[0]:g} among them,", "Are they fill values (make them NaN)"
    return f"{name} holds {what} fifty times as far from the median as usual. {asked}, or in another unit?"


_FAR = 20  # interquartile ranges of all others, beyond which a constant is no number of the field


def no_constant(name: str, values: np.ndarray) -> None:
    """No field of which some points hold one number at all times, far from what all others do: a fill value on land.

    Args:
        name: of the values.
        values: `(..., n)`, NaN where missing.
    """
    values = values.reshape(-1, values.shape[-1])
    low, high = np.fmin.reduce(values), np.fmax.reduce(values)
    still = low == high
    others = values[:, ~still]
    constants = np.unique(low[still])
    others = others[np.isfinite(others) & ~np.isin(others, constants)]  # gaps at sea have the fill of land, too
    if not still.any() or not others.size:
        return
    quarter, middle, three = np.quantile(others, [0.25, 0.5, 0.75])  # a few fills of another kind move no quartile
    usual = (three - quarter) or others.std(dtype=float)  # most of it is 0 where it seldom rains
    far = still & (np.abs(low - middle) > _FAR * usual)
    if not far.any():
        return
    found, times = np.unique(low[far], return_counts=True)
    k = times.argmax()
    shown, more = _exactly(found[k]), f", and others at {far.sum() - times[k]}" if len(found) > 1 else ""
    raise ValueError(
        f"{name} holds {shown} at all times at {counted(times[k], 'point')} of {far.size}{more}, {_FAR} times as far "
        f"from the median of all others as usual: a fill value, most likely. Land is NaN at all times: "
        f"{name}.where({name} != {shown}). If it is what the field is there, leave these points out all the same, for "
        "nothing is to be learnt where nothing changes."
    )


def no_fill(name: str, values, attrs: Mapping) -> None:
    """No values that their attributes declare to be missing, as a file has them that was not decoded."""
    for key in ("_FillValue", "missing_value"):
        for fill in np.ravel(attrs.get(key, [])):
            if np.asarray(fill).dtype.kind not in "iuf":
                continue
            same = values == (values.dtype.type(fill) if values.dtype.kind == "f" else fill)
            if found := int(same.sum()):  # what is not in memory is read where it may hold some, chunk by chunk
                raise ValueError(
                    f"{name} declares {key}={_exactly(fill)}, and {found:,} of {counted(same.size, 'value')} "
                    f"{'is' if found == 1 else 'are'} that, not NaN: open the file by xr.open_dataset(path), "
                    f"without mask_and_scale=False, or take {name}.where({name} != {_exactly(fill)})."
                )


def _exactly(number) -> str:
    """A number in as few digits as tell it."""
    return f"{number:g}" if float(f"{number:g}") == float(number) else repr(float(number))


def real(name: str, labelled) -> None:
    """A labelled array of real numbers; one that is not in memory yet is not read."""
    if labelled.dtype.kind not in "iuf":
        raise ValueError(f"{name} has dtype {labelled.dtype}; real numbers are needed.")


def unhalved(name: str, dtype) -> None:
    """No numbers in half precision, which holds three digits."""
    if str(dtype).endswith("float16"):
        raise ValueError(
            f"{name} has dtype {dtype}, three digits of which most are lost in sums: {name}.astype('float32') of what "
            "was measured in better numbers."
        )


def even(dim, points: np.ndarray, advice: str) -> None:
    """The points along an axis are equally far apart."""
    gaps = np.diff(points)
    if gaps.size and not (0 * gaps[0] < abs(gaps[0]) and (np.abs(gaps - gaps[0]) <= 1e-3 * abs(gaps[0])).all()):
        raise ValueError(f"The grid is uneven along {dim!r}, with steps from {gaps.min()} to {gaps.max()}: {advice}")


def _per_component(name: str, value, shape: Sequence[int], expected: str, valid: Callable[[Tensor], Tensor]) -> Tensor:
    """One number, or one for each number of a state, each of them valid; as a vector."""
    n, shape = math.prod(shape), tuple(shape)
    of_field = "" if shape == (n,) else f" or an array {shape}"
    expected = f"a number or {n} of them, one per component,{of_field} {expected}"
    found = numbers(name, value, expected)
    if found.shape not in ((), (n,), shape) or not (found.isfinite() & valid(found)).all():
        raise refused(name, value, expected, f"Try {name}=1.0.")
    return found.reshape(-1).expand(n)


def vector(name: str, value, shape: Sequence[int]) -> Float[Tensor, " n"]:
    """Finite numbers, one for all or one for each of a state of this shape."""
    return _per_component(name, value, shape, "finite", lambda x: x.isfinite())


def noise(value, shape: Sequence[int], name: str = "model_noise_std") -> Float[Tensor, " n"]:
    """Standard deviations, one for all or one for each number of a state of this shape, none of them negative."""
    return _per_component(name, value, shape, "finite and not negative", lambda x: x >= 0)


def spread(value, shape: Sequence[int], name: str) -> Float[Tensor, " n"]:
    """Standard deviations likewise, all of them positive."""
    return _per_component(name, value, shape, "finite and positive", lambda x: x > 0)


def covariance(value, shape: Sequence[int], name: str = "covariance") -> Float[Tensor, "n n"]:
    """A symmetric positive definite matrix with a row per number of a state of this shape; `(*shape, *shape)`, too."""
    n = math.prod(shape)
    expected = f"a matrix ({n}, {n}), one row per component, finite, symmetric and positive definite"
    matrix = numbers(name, value, expected)
    if matrix.shape == (*shape, *shape):
        matrix = matrix.reshape(n, n)
    if matrix.shape != (n, n):
        raise refused(name, value, f"{expected}, not {tuple(matrix.shape)}", "Try np.cov(states.T) of many states.")
    if (found := not_a_covariance(matrix)) is not None:
        raise refused(name, value, expected, sentence(f"It {found[1]}"))
    return (matrix + matrix.mT) / 2


def not_a_covariance(matrices: Float[Tensor, "*batch n n"]) -> tuple[tuple[int, ...], str] | None:
    """Where in a batch the first matrix is that is no covariance, and why it is none; None if all are."""
    import torch

    symmetric_part = (matrices + matrices.mT) / 2
    scale = matrices.diagonal(dim1=-2, dim2=-1).abs().sqrt()
    off = (matrices - matrices.mT).abs() > 1e-6 * scale.unsqueeze(-1) * scale.unsqueeze(-2)
    finite, symmetric = (x.flatten(-2).all(-1) for x in (matrices.isfinite(), ~off))
    filled = symmetric_part.where((finite & symmetric)[..., None, None], 0.0)
    bad = torch.linalg.cholesky_ex(filled).info != 0
    if not bad.any():
        return None
    where = tuple(bad.nonzero()[0].tolist())
    if not finite[where]:
        return where, "holds NaN or infinite values; of data with gaps, drop the states that have any before np.cov"
    if not symmetric[where]:
        i, j = off[where].nonzero()[0].tolist()
        above, below = matrices[where][i, j].item(), matrices[where][j, i].item()
        return where, f"is not symmetric: [{i}, {j}] is {above:g} and [{j}, {i}] is {below:g}; is it a root of one?"
    lowest = torch.linalg.eigvalsh(symmetric_part[where])[0].item()
    return where, (
        f"is not positive definite: its lowest eigenvalue is {lowest:.3g}; np.cov(states.T) of many more states than "
        "components is, and so is a matrix with a small variance added to its diagonal"
    )


# Choices, names and objects


def flag(name: str, value) -> bool:
    """True or False."""
    if not isinstance(value, bool | np.bool_):
        raise refused(name, value, "True or False", f"Try {name}=False.")
    return bool(value)


def text(name: str, value) -> str:
    """A text."""
    if not isinstance(value, str):
        raise refused(name, value, "a text", f'Try {name}="1".')
    return str(value)


def dtype(value) -> torch.dtype:
    """In which numbers to compute; half precision has too few digits for a model's small steps."""
    import torch

    if not any(value is each for each in (torch.float64, torch.float32)):
        raise refused("dtype", value, "torch.float64 or torch.float32", "Try dtype=torch.float64.")
    return value


def one_of(name: str, value, allowed: Iterable[str], advice: str = "") -> str:
    """One of some names."""
    allowed = list(allowed)
    if not isinstance(value, str) or value not in allowed:
        raise refused(name, value, f"one of {allowed}", advice or f"Try {name}={next(iter(allowed), None)!r}.")
    return str(value)


def several(name: str, values) -> list:
    """What a list, or anything like it, holds; a text is no list. Of an array it is numbers or texts of Python."""
    found = np.asarray(values).tolist() if hasattr(values, "__array__") else values
    if isinstance(found, str) or not isinstance(found, Iterable):
        raise refused(name, values, "a list", f"Try {name}=[{found!r}].")
    return list(found)


def names(name: str, values) -> tuple[str, ...]:
    """Any number of names."""
    found = several(name, values)
    if not all(isinstance(each, str) for each in found):
        raise refused(name, values, "a list of names", f'Try {name}=("x",).')
    return tuple(map(str, found))


def known(what: str, given: Iterable[str], allowed: Iterable[str]) -> None:
    """Names that there are."""
    allowed = list(allowed)
    if unknown := [each for each in given if each not in allowed]:
        raise ValueError(f"There are no {what} {unknown}; there are {allowed}.")


def instance(name: str, value, kind: type | UnionType, expected: str, advice: str) -> Any:
    """An object of a class."""
    if not isinstance(value, kind):
        raise refused(name, value, expected, advice)
    return value


def function(name: str, value, advice: str) -> Callable:
    """What can be called."""
    if not callable(value):
        raise refused(name, value, "a function", advice)
    return value


def strict(record: Any) -> Any:
    """A record as JSON has it, which knows neither NaN nor infinity: null stands for them.

    >>> strict({"error": math.nan, "steps": (1, math.inf)})
    {'error': None, 'steps': [1, None]}
    """
    if isinstance(record, dict):
        return {name: strict(value) for name, value in record.items()}
    if isinstance(record, list | tuple):
        return [strict(value) for value in record]
    if hasattr(record, "tolist"):  # numbers and arrays of numpy, tensors
        return strict(record.tolist())
    return None if isinstance(record, float) and not math.isfinite(record) else record


def store(record: Any, **values: Any) -> None:
    """Put checked values in place of those that a frozen dataclass was given."""
    for name, value in values.items():
        object.__setattr__(record, name, value)
