"""Extracts errors from tool output verbatim, or the line that reports success. Pure.

The cost is bounded on any output: both ends are read line by line, the middle only around error markers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

from ctxmem_mcp.summarizers.base import COMMITTED
from ctxmem_mcp.summarizers.sentences import head_and_tail, one_line
from ctxmem_mcp.summarizers.tool_calls import ToolCall
from ctxmem_mcp.text.cues import error_line
