"""A conversation as one HTML page that needs nothing else, for people to read."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from ctxmem_mcp.exports.markdown import heading
from ctxmem_mcp.models import Turn

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --user: #2563eb; --agent: #16a34a; --tool: #a16207 }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 54rem; margin: 2rem auto; padding: 0 1rem }
article { border-left: 3px solid var(--line); padding: 0 1rem; margin: 1.25rem 0 }
article.user { border-color: var(--user) } article.assistant { border-color: var(--agent) }
article.tool { border-color: var(--tool) }
h2, summary { font-size: .8rem; font-weight: 500; opacity: .75; margin: 0 }
pre { white-space: pre-wrap; overflow-wrap: anywhere; font: inherit; margin: .25rem 0 }
details pre { font: 13px/1.45 ui-monospace, monospace }
"""
# No script, no request, no form: the words of a conversation can't do anything.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def export_html(turns: Sequence[Turn], title: str) -> str:
    """Returns the page. Talk is open, calls, results and what a host put in are closed."""
    body = "\n".join(map(_article, turns))
    return (
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n<h1>{escape(title)}</h1>\n{body}\n</html>\n"
    )


def _article(turn: Turn) -> str:
    is_talk = turn.role in ("user", "assistant") and turn.call_id is None
    head, text = escape(heading(turn)), f"<pre>{escape(turn.content)}</pre>"
    inner = f"<h2>{head}</h2>{text}" if is_talk else f"<details><summary>{head}</summary>{text}</details>"
    return f'<article class="{turn.role}" id="{escape(turn.id)}">{inner}</article>'
