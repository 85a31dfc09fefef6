"""Figures of a running service in Prometheus' text format: requests, their time, what was refused. Never any text."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
BUCKETS_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


@dataclass(slots=True)
class _Times:
    """How long answers took: per bucket, in all, and how many."""

    buckets: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS_SECONDS) + 1))
    total: float = 0.0


@dataclass(slots=True)
class Metrics:
    """Counted in the event loop's thread only."""

    requests: Counter[tuple[str, str, int]] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    under_way: int = 0
    _times: dict[str, _Times] = field(default_factory=dict)

    def done(self, method: str, route: str, status: int, seconds: float) -> None:
        self.requests[method, route, status] += 1
        times = self._times.setdefault(route, _Times())
        times.buckets[bisect_left(BUCKETS_SECONDS, seconds)] += 1
        times.total += seconds

    def text(self, version: str, rooms: int) -> str:
        lines = [
            *_head("ctxmem_build_info", "gauge", "The version that runs."),
            f'ctxmem_build_info{{version="{_escaped(version)}"}} 1',
            *_head("ctxmem_principals_open", "gauge", "Principals whose memory is open."),
            f"ctxmem_principals_open {rooms}",
            *_head("ctxmem_http_requests_under_way", "gauge", "Requests that have not ended."),
            f"ctxmem_http_requests_under_way {self.under_way}",
            *_head("ctxmem_http_refused_total", "counter", "Requests refused before they reached a route."),
            *(f'ctxmem_http_refused_total{{why="{why}"}} {n}' for why, n in sorted(self.refused.items())),
            *_head("ctxmem_http_requests_total", "counter", "Requests that ended."),
            *(
                f"ctxmem_http_requests_total{_labels(method=method, route=route, status=status)} {n}"
                for (method, route, status), n in sorted(self.requests.items())
            ),
            *_head("ctxmem_http_request_seconds", "histogram", "From a request's first byte to its answer's last."),
        ]
        for route, times in sorted(self._times.items()):
            lines += _histogram(_escaped(route), times)
        return "\n".join(lines) + "\n"


def _histogram(route: str, times: _Times) -> list[str]:
    lines, so_far = [], 0
    for bound, n in zip([*map(str, BUCKETS_SECONDS), "+Inf"], times.buckets, strict=True):
        so_far += n
        lines.append(f'ctxmem_http_request_seconds_bucket{{route="{route}",le="{bound}"}} {so_far}')
    lines.append(f'ctxmem_http_request_seconds_sum{{route="{route}"}} {times.total:.6f}')
    lines.append(f'ctxmem_http_request_seconds_count{{route="{route}"}} {so_far}')
    return lines


def _head(name: str, kind: str, words: str) -> list[str]:
    return [f"# HELP {name} {words}", f"# TYPE {name} {kind}"]


def _labels(**labels: object) -> str:
    return "{" + ",".join(f'{name}="{_escaped(str(value))}"' for name, value in labels.items()) + "}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
