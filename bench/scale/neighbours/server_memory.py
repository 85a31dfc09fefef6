"""server-memory, the reference MCP server of a knowledge graph: an entity per turn, over MCP by stdio.

A query searches for its longest word, because the server looks for the query as one text. `SERVER_MEMORY` names the
server's JavaScript file.
"""

from __future__ import annotations

import json
import os
import subprocess
from itertools import count
from pathlib import Path
from typing import Any

from harness import run

ENTITIES = 500


class ServerMemory:
    def __init__(self, folder: Path) -> None:
        environment = {**os.environ, "MEMORY_FILE_PATH": str(folder / "memory.jsonl")}
        self._process = subprocess.Popen(
            ["node", os.environ["SERVER_MEMORY"]], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        self.processes, self._numbers, self._entities = [self._process.pid], count(), count()
        hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "bench", "version": "1"}}
        self._request("initialize", hello)
        self._send({"method": "notifications/initialized"})

    def _send(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
        self._process.stdin.flush()

    def _request(self, method: str, params: dict[str, Any]) -> str:
        assert self._process.stdout is not None
        number = next(self._numbers)
        self._send({"id": number, "method": method, "params": params})
        while line := self._process.stdout.readline():
            if json.loads(line).get("id") == number:
                return line
        raise RuntimeError("The server has ended.")

    def _create(self, turns: list[dict[str, Any]]) -> None:
        entities = [
            {"name": f"turn {next(self._entities)}", "entityType": turn["role"], "observations": [turn["content"]]}
            for turn in turns
        ]
        self._request("tools/call", {"name": "create_entities", "arguments": {"entities": entities}})

    def fill(self, turns: list[dict[str, Any]]) -> None:
        for first in range(0, len(turns), ENTITIES):
            self._create(turns[first : first + ENTITIES])

    def append(self, turn: dict[str, Any]) -> None:
        self._create([turn])

    def query(self, text: str) -> int:
        word = max(text.split(), key=len)
        return len(self._request("tools/call", {"name": "search_nodes", "arguments": {"query": word}}))

    def close(self) -> None:
        self._process.terminate()
        self._process.wait()


if __name__ == "__main__":
    run(ServerMemory)
