from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.gateway.harness import RunningGateway, UpstreamStub, answers_with, gateway, upstream_stub


@pytest.fixture
def stub() -> Iterator[UpstreamStub]:
    with upstream_stub(answers_with("It is fixed.")) as found:
        yield found


@pytest.fixture
def running(tmp_path: Path, stub: UpstreamStub) -> Iterator[RunningGateway]:
    with gateway(tmp_path, stub, gateway_tokens=4_000) as found:
        yield found
