"""The fixtures of the HTTP service's tests."""

from __future__ import annotations

from tests.http_api.conftest import serve

__all__ = ["serve"]
