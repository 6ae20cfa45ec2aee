"""Public names, whose modules are imported when one is asked for first (PEP 562).

So `import nida_kit` takes no time, and what needs no torch works where there is none, as in JupyterLite. A package
lists its names in the stub beside its `__init__.py`, which editors and type checkers read as well.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import lazy_loader


def listed(package: str, file: str) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """`__getattr__`, `__dir__` and `__all__` of a package, whose modules can be had by their names as well.

    Args:
        package: its `__name__`.
        file: its `__file__`, beside which there is the stub.
    """
    imported, listing, names = lazy_loader.attach_stub(package, file)

    def asked(name: str) -> Any:
        try:
            if name in names:
                return imported(name)
            if "." not in name and find_spec(f"{package}.{name}"):
                return import_module(f"{package}.{name}")
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                f"{package}.{name} needs {error.name}, which is not installed here: pip install 'nida_kit[notebooks]' "
                "brings it. JupyterLite cannot have torch, which most of the package needs; Binder and Colab have it.",
                name=error.name,
            ) from error
        said = f"module {package!r} has no attribute {name!r}"
        raise AttributeError(said, name=name, obj=sys.modules[package])  # with both, Python adds the nearest name

    return asked, listing, names
