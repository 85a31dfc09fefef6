"""Prints a view as it is, and values as JSON."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import Any

import typer

from ctxmem_mcp.models import View


def print_view(view: View, as_json: bool) -> None:
    if as_json:
        reasons = {"reasons": [asdict(reason) for reason in view.reasons]} if view.reasons else {}
        print_json({**json.loads(view.header), "text": view.text, **reasons})
    else:
        # As it is: no wrapping, no markup, so that it can be piped on byte for byte.
        sys.stdout.write(view.render() + "\n")
        for reason in view.reasons:
            why = ", ".join(reason.why)
            typer.echo(f"{reason.turn_id}  {reason.tokens} tokens  score {reason.score:.2f}: {why}", err=True)


def print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2 if sys.stdout.isatty() else None) + "\n")
