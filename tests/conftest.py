"""Fixtures and rules for all tests."""

import os
from collections.abc import Generator

import pytest

pytest_plugins = ["tests.support.db"]

SLOW = ("chaos", "simulation", "docker", "asterisk", "e2e", "sandbox")
"""Directories whose files take minutes: they begin first, so that no worker is alone with one of them at the end."""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow files first, each whole and in its own order (`scripts/test` keeps xdist from sorting them again)."""
    rank = {name: place for place, name in enumerate(SLOW)}
    items.sort(key=lambda item: rank.get(item.nodeid.split("/")[1], len(SLOW)))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI a skipped test is a failed test: it proves nothing."""
    report = yield
    if os.environ.get("CI") and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped in CI: {report.longrepr}"
    return report
