"""A process that asks for /health every 20 ms: `python -m tests.http_api.health_probe HOST PORT`.

It ends when stdin does, and prints the milliseconds of each request, as JSON. A process of its own, so that it measures
the service and not the callers.
"""

from __future__ import annotations

import http.client
import json
import select
import sys
import time

EVERY_SECONDS = 0.02


def main(host: str, port: int) -> None:
    milliseconds = []
    connection = http.client.HTTPConnection(host, port, timeout=60)
    while not select.select([sys.stdin], [], [], EVERY_SECONDS)[0]:
        began = time.perf_counter()
        connection.request("GET", "/health")
        response = connection.getresponse()
        response.read()
        milliseconds.append((time.perf_counter() - began) * 1000)
        assert response.status == 200, response.status
    sys.stdout.write(json.dumps(milliseconds))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
