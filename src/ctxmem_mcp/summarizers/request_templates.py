"""Finds the name that a request's template gives it: the title of the issue, plan, task or pull request. Pure.

Implement the following plan: # Plan: Retries of uploads      its heading
You are implementing Task 3: Add a counter                    the task's name
Here's the issue text: ISSUE: Uploads fail twice              the issue's title
Work on APP-12. Run show APP-12 to see the details.           the reference
"""

from __future__ import annotations

import re

from ctxmem_mcp.patterns import lazy_regex
from ctxmem_mcp.summarizers.sentences import one_line

_HEAD_CHARS = 2_000
_PLAN_REQUEST = lazy_regex(r"\A\s*(?:please )?(?:implement|execute|carry out|follow) (?:the following|this) plan", re.I)
_HEADING = lazy_regex(r"^#{1,3} +(\S.{3,160})$", re.M)
_PLAN_LABEL = lazy_regex(r"\A(?:(?:implementation )?plan|task|goal)\s*[:–—-]\s*", re.I)
# A title on the line after its label, as programs paste issues: "ISSUE:", then the title. A request is no title.
_ISSUE = lazy_regex(
    r"\A.{0,300}?^\W*(?:ISSUE|BUG(?: REPORT)?|FEATURE(?: REQUEST)?|PROBLEM|TICKET)(?: TITLE)?\W*:[ \t]*\n\s*"
    r"([^\W\d_][^\n]{7,119})$",
    re.M | re.S,
)
# The fields that a program prints of a pull request or an issue.
_FIELDS = lazy_regex(r"\btitle:[ \t]+(\S[^\n]{7,160})\n[ \t]*(?:state|author|labels|number|url):")
_TASK = lazy_regex(
    r"\A\W*You are (?:implementing|working on|executing) (?:Task|Step) [\w.]{1,6}[ \t]*[:–—-][ \t]*(\S[^\n]{3,160})$"
    r"|\A\W{0,4}(?:Task|Goal|Objective)\W{0,4}[ \t]*[:–—][ \t]*\W{0,4}(\S[^\n]{7,160})$",
    re.M,
)
_REVIEWED_TASK = lazy_regex(
    r"\A\W*You are reviewing\b.{0,300}?^\W*(Task [\w.]{1,6}[ \t]*[:–—-][ \t]*\S[^\n*]{3,160}?)\**$", re.M | re.S
)
_REVIEW = lazy_regex(r"\A\W*You are (?:doing|performing|conducting|carrying out) (?:an? )?(\S[^\n]{15,160})", re.I)
_RECAP = lazy_regex(r"\A\W*Your task is to create a detailed summary of the conversation", re.I)
RECAP_REQUEST = "Summary of the conversation so far"
# How the id of an issue looks: "APP-12", "spotter-4te.1", "#12".
ID = r"(?:#\d{1,6}|[A-Za-z][A-Za-z0-9]{1,20}-[A-Za-z0-9]{1,12}(?:\.\d{1,3})?)"
# A request that is little more than the id.
REFERENCE = lazy_regex(
    r"(?:please )?(?:work on|start|do|implement|fix|solve|pick up|take|continue(?: with)?|resolve|review|handle|"
    r"look at)"
    r"(?: (?:the|this|next|bead|issue|ticket|task|story|epic|bug|pr|pull request)){0,3} "
    rf"({ID})(?=\W*\Z|[.!]\s)",
    re.I,
)
_REFERS = lazy_regex(rf"\A\s*(?:please )?({REFERENCE.pattern})", re.I)


def template_title(text: str) -> str:
    """Returns the title that a request's template gives it, without its label; empty if it has none."""
    head = text[:_HEAD_CHARS]
    if _PLAN_REQUEST.match(head[:200]):
        heading = _HEADING.search(head)
        return one_line(_PLAN_LABEL.sub("", heading[1])) if heading else ""
    if _RECAP.match(head):
        return RECAP_REQUEST
    if reviewed := _REVIEWED_TASK.match(head):
        return f"Review {one_line(reviewed[1])}"
    for pattern in (_TASK, _REVIEW, _ISSUE, _FIELDS, _REFERS):
        if found := pattern.search(head):
            title = one_line(next(filter(None, found.groups()))).strip(" *_")
            return title[:1].upper() + title[1:]
    return ""
