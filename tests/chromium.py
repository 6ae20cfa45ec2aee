"""The browser of the tests that open pages, and whether it is there."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

import pytest

CHROMIUM = shutil.which("chromium")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
]
LAPTOP, PHONE = (1366, 768), (390, 844)  # pixels


def missing(*modules: str) -> str:
    """Why these tests cannot run, or nothing."""
    if absent := [name for name in modules if find_spec(name) is None]:
        return f"{' and '.join(absent)} not installed: pip install -e '.[notebooks,data,test]'"
    return "" if CHROMIUM else "there is no chromium: apt-get install chromium"


def need(*modules: str) -> None:
    """Skip where these modules or the browser are missing; `NIDA_BROWSER=required` fails there."""
    if reason := missing(*modules):
        (pytest.fail if os.environ.get("NIDA_BROWSER") == "required" else pytest.skip)(reason)


@contextmanager
def launched(*modules: str) -> Iterator:
    """A browser, for tests that need these modules besides."""
    need("playwright", *modules)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()
