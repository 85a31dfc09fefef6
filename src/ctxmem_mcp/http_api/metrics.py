"""Metrics of a running service in Prometheus' text format: requests, durations, rejections. Never any user text."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
BUCKETS_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


@dataclass(slots=True)
class _Durations:
    """Response times of one route: a count per bucket, and the sum in seconds."""

    buckets: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS_SECONDS) + 1))
    total: float = 0.0


@dataclass(slots=True)
class Metrics:
    """The counters. They are changed only in the event loop's thread.

    Attributes:
        requests: finished requests by method, route and status.
        rejected: requests rejected before they reached a route, by reason.
        in_progress: requests that have not finished.
    """

    requests: Counter[tuple[str, str, int]] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)
    in_progress: int = 0
    _durations: dict[str, _Durations] = field(default_factory=dict)

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """Counts a finished request."""
        self.requests[method, route, status] += 1
        durations = self._durations.setdefault(route, _Durations())
        durations.buckets[bisect_left(BUCKETS_SECONDS, seconds)] += 1
        durations.total += seconds

    def render(self, version: str, open_tenants: int) -> str:
        """Returns all metrics in Prometheus' text format."""
        lines = [
            *_metadata("ctxmem_build_info", "gauge", "The running version."),
            f'ctxmem_build_info{{version="{_escaped(version)}"}} 1',
            *_metadata("ctxmem_principals_open", "gauge", "Principals and shared spaces whose memory is open."),
            f"ctxmem_principals_open {open_tenants}",
            *_metadata("ctxmem_http_requests_in_progress", "gauge", "Requests that have not finished."),
            f"ctxmem_http_requests_in_progress {self.in_progress}",
            *_metadata("ctxmem_http_rejected_total", "counter", "Requests rejected before they reached a route."),
            *(f'ctxmem_http_rejected_total{{reason="{reason}"}} {n}' for reason, n in sorted(self.rejected.items())),
            *_metadata("ctxmem_http_requests_total", "counter", "Finished requests."),
            *(
                f"ctxmem_http_requests_total{_labels(method=method, route=route, status=status)} {n}"
                for (method, route, status), n in sorted(self.requests.items())
            ),
            *_metadata(_DURATION, "histogram", "From a request's first byte to its response's last."),
        ]
        for route, durations in sorted(self._durations.items()):
            lines += _histogram(_escaped(route), durations)
        return "\n".join(lines) + "\n"


_DURATION = "ctxmem_http_request_duration_seconds"


def _histogram(route: str, durations: _Durations) -> list[str]:
    lines, cumulative = [], 0
    for bound, n in zip([*map(str, BUCKETS_SECONDS), "+Inf"], durations.buckets, strict=True):
        cumulative += n
        lines.append(f'{_DURATION}_bucket{{route="{route}",le="{bound}"}} {cumulative}')
    lines.append(f'{_DURATION}_sum{{route="{route}"}} {durations.total:.6f}')
    lines.append(f'{_DURATION}_count{{route="{route}"}} {cumulative}')
    return lines


def _metadata(name: str, kind: str, description: str) -> list[str]:
    return [f"# HELP {name} {description}", f"# TYPE {name} {kind}"]


def _labels(**labels: object) -> str:
    return "{" + ",".join(f'{name}="{_escaped(str(value))}"' for name, value in labels.items()) + "}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
