"""What the tests with real agents share. Every one of them has the marker `agents`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agents.model import Model

_HERE = Path(__file__).parent
# They need a pseudo-terminal and process groups.
collect_ignore_glob = ["test_*.py"] if sys.platform == "win32" else []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if _HERE in item.path.parents:
            item.add_marker(pytest.mark.agents)
            item.add_marker(pytest.mark.timeout(900))


@pytest.fixture
def model() -> Iterator[Model]:
    with Model() as started:
        yield started
