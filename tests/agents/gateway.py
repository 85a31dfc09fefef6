"""The gateway as a user starts it, in front of the scripted model."""

from __future__ import annotations

import re
import subprocess
import tempfile
from types import TracebackType

from tests.agents.home import COMMAND, Home, wait_for
from tests.agents.model import Model


class Gateway:
    """A running gateway; it uses the home's memory."""

    def __init__(self, home: Home, model: Model, tokens: int = 16_000) -> None:
        self._home = home
        self._variables = {
            "CTXMEM_UPSTREAM_ANTHROPIC_URL": model.url, "CTXMEM_UPSTREAM_BASE_URL": f"{model.url}/v1",
            "CTXMEM_GATEWAY_TOKENS": str(tokens),
        }  # fmt: skip
        self.url = ""

    def __enter__(self) -> Gateway:
        self._log = tempfile.TemporaryFile()
        command = [str(COMMAND), "serve", "--transport", "http", "--port", "0", "--log-level", "info"]
        environment = self._home.environment | self._variables
        self._process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log
        )
        self.url = wait_for("the gateway", self._address)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait()
        self._log.close()

    def _address(self) -> str | None:
        assert self._process.poll() is None, self._said()
        found = re.search(r"http://127\.0\.0\.1:\d+", self._said())
        return found[0] if found else None

    def _said(self) -> str:
        self._log.seek(0)
        return self._log.read().decode("utf-8", "replace")
