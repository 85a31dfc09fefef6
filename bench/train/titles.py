"""python -m bench.train.titles GOLD DATA [--use USE] [--write]

Trains the weights by which summaries choose titles and lines (summarizers/weights.json), and measures them by leaving
one history out at a time.

GOLD is a list of sections: `history`, `first` and `last` turn, `level` (absent or 0 for a leaf), `titles` that people
gave it and `facts` worth remembering (`text`, and `span`: the words that it rests on). DATA holds the histories, a
conversation a line. The sections of bench/data/section_titles.json, of other projects and agents, are added.
A title is worth its F1 of content words against the nearer of the titles; a line is worth a fact
if it has 60% of the content words of the fact or of its span.

Titles are trained as a choice: the weights maximise the expected F1 of a softmax over a section's options. Lines are
trained by logistic regression. Both start from weights set by hand and are drawn towards them, because a hundred
sections are few.
"""

from __future__ import annotations

import argparse
import gzip
import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from bench.data.models import eval_folder
from ctxmem_mcp import summarizers, tree
from ctxmem_mcp.capture.importer import read as transcript_in
from ctxmem_mcp.memory.commit_builder import BEFORE_TURNS, turn_facts
from ctxmem_mcp.models import NewTurn, Node, Summary, Turn
from ctxmem_mcp.summarizers.error_outcomes import find_error_outcomes
from ctxmem_mcp.summarizers.extractive import ExtractiveSummarizer, assistant_messages
from ctxmem_mcp.summarizers.headlines import as_title
from ctxmem_mcp.summarizers.parent_ranker import ParentRanker
from ctxmem_mcp.summarizers.parents import LINE_CHARS, group_errors_with_ending
from ctxmem_mcp.summarizers.section_reader import read_section
from ctxmem_mcp.summarizers.section_states import state_at_end
from ctxmem_mcp.summarizers.sentences import one_line
from ctxmem_mcp.summarizers.statement_features import (
    Features,
    score,
    section_salience,
    statement_features,
    stems,
)
from ctxmem_mcp.summarizers.statement_ranker import leaf_title_options
from ctxmem_mcp.summarizers.statements import find_statements
from ctxmem_mcp.text import tokenizer

WEIGHTS = Path(next(iter(summarizers.__path__))) / "weights.json"
# Titles given by hand to sections of transcripts of other projects and agents, which are in CTXMEM_EVAL_DIR.
OWN_TITLES = Path(__file__).parents[1] / "data" / "section_titles.json"
TOLD_SHARE = 0.6
# How strongly the weights are drawn to those they start from.
PULL = {"title": 25.0, "line": 3.0, "parent_title": 80.0, "parent_line": 20.0}
STEPS = 300
START: Mapping[str, Mapping[str, float]] = {
    "title": {
        "commit": 4.5, "plan": 1.5, "request": 1.7, "request_at_start": 3.5, "clear_request": 1.2,
        "request_at_end": -0.5, "closing": 0.3, "before_edit": 1.2, "before_call": -0.5, "edit": -5,
        "thought": -0.5, "call": -1, "error": -0.5, "recap": -1, "share": 2,
        "salience": 2, "top": 1.5, "names": 0.6, "announces": -0.5, "rank": -0.5, "pointing": -2,
        "vague": -3, "first_person": -2, "cut": -2.5, "short": -1,
        "looking:first": -1.5, "housekeeping": -1, "task": 0.8, "chore": -2, "colon": -0.3, "digits": -0.5, "pair": 0.5,
        "state": 1, "kept": 1.5, "coverage": 1, "one_edit": -1, "description": -1, "item": -0.7,
        "only_tests": -2, "verbless": -1, "question": -1.2,
        "restated": 3, "deed": 1.5, "remark": -1, "process": -1.5, "relative": -0.8, "opens_list": -1,
        "ends_vaguely": -1.5, "third_person": -1.5,
    },
    "line": {
        "bias": -4, "request": 2, "user": 1, "refusal": 2, "commit": 2, "plan": 1.5, "closing": 0.8, "text": 0.3,
        "thought": -0.3, "error": 0.5, "call": -1, "task": -0.3, "edit": 0.3, "recap": -0.5, "cause": 0.8,
        "result": 0.5, "choice": 0.5, "looking:first": -1.5, "housekeeping": -1, "vague": -0.8, "pointing": -0.3,
        "first_person": -0.7, "colon": -1, "announces": -0.5, "share": 1, "salience": 1, "names": 0.8, "words": 1,
        "short": -1, "opens_list": -0.5, "process": -0.6, "deed": 0.4,
    },
    "parent_title": {
        "title": 1.5, "common": 1, "commit": 4, "outcome": 1, "request": 1.5, "decision": -0.3, "error": -1,
        "file": -1.5,
        "share": 2.5, "salience": 2, "top": 2.5, "size": 0.5, "place": 0.5, "governs": 0.5, "covered": 7, "chars": 1,
        "pair": 2, "names": 1, "result": 0.8,
        "cut": -2.5, "kept": 1.5, "coverage": 0.3, "state": 0, "vague": -3,
        "pointing": -2, "first_person": -2, "looking:first": -1.5, "housekeeping": -1, "chore": -2, "short": -1,
        "one_edit": -1.5, "description": -1, "item": -1.5, "only_tests": -2, "verbless": -1.5, "to_do": -1.5,
        "restated": 2.5, "deed": 0.8, "remark": -1.5, "question": -1.5, "process": -1.5, "relative": -0.8,
        "opens_list": -1, "ends_vaguely": -1.5, "third_person": -1.5, "one_name": -1,
    },
    "parent_line": {
        "bias": -4, "users": 2, "commit": 2, "outcome": 1, "request": 1, "decision": 0.5, "fact": 0.3, "file": -0.5,
        "cause": 0.6,
        "result": 0.3, "share": 1.5, "salience": 1, "size": 0.7, "names": 0.6, "words": 0.5, "short": -1,
        "vague": -0.8, "pointing": -0.3, "first_person": -0.7, "looking:first": -1, "housekeeping": -1,
        "process": -0.6, "deed": 0.4,
    },
}  # fmt: skip

Array = Any  # numpy's own types are not checked here


@dataclass
class Section:
    """A section of the gold data. options: features, worth and text of each title or line that it offers."""

    history: str
    gold: dict[str, Any]
    options: list[tuple[Features, float, str]]


@dataclass
class Closed:
    """A node of a history's tree. turns, before: of a leaf. children: of an inner node."""

    node: Node
    turns: list[Turn]
    before: list[Turn]
    children: list[Closed]


def content_words(text: str) -> frozenset[str]:
    return frozenset(stems(text))


def f1(words: frozenset[str], others: frozenset[str]) -> float:
    both = len(words & others)
    return 2 * both / (len(words) + len(others)) if both else 0.0


def fact_share(fact: Mapping[str, str], words: frozenset[str]) -> float:
    """The share of the content words of a fact, or of its span, that these words contain."""
    return max((len(w & words) / len(w) for w in map(content_words, (fact["text"], fact["span"])) if w), default=0.0)


def build_tree(rows: Sequence[Mapping[str, Any]]) -> list[Closed]:
    """Returns the closed nodes of a history, children before parents."""
    closed: dict[bytes, Closed] = {}
    frontier, digest = tree.Frontier(), b""
    leaf: list[Turn] = []
    before: list[Turn] = []
    for index, row in enumerate(rows):
        digest = tree.turn_digest(digest, row["role"], row.get("name"), row.get("call_id"), row["content"])
        turn = Turn(
            index + 1, index, digest, row["role"], row["content"], row.get("name"), row.get("said_at"),
            row.get("call_id"), tokenizer.count(row["content"]),
        )  # fmt: skip
        growth = tree.grow(frontier, turn_facts(turn))
        for node in growth.closed:
            children = [closed[child] for child in node.children] if node.level else []
            closed[node.digest] = Closed(node, [] if node.level else leaf, before, children)
        if growth.closed:
            before, leaf = leaf[-BEFORE_TURNS:], []
        leaf.append(turn)
        frontier = growth.frontier
    return list(closed.values())


def summarize(nodes: Sequence[Closed]) -> dict[bytes, Summary]:
    summarizer, summaries = ExtractiveSummarizer(), dict[bytes, Summary]()
    for closed in nodes:
        children = [(child.node, summaries[child.node.digest]) for child in closed.children]
        summaries[closed.node.digest] = (
            summarizer.summarize_parent(children) if children
            else summarizer.summarize_leaf(closed.turns, closed.before)
        )  # fmt: skip
    return summaries


def nearest(nodes: Sequence[Closed], gold: Mapping[str, Any]) -> Closed:
    """The node that has the most turns in common with a gold section."""
    first, last = int(gold["first"][1:]), int(gold["last"][1:])

    def share(closed: Closed) -> tuple[float, int]:
        node = closed.node
        common = max(0, min(node.last, last) - max(node.first, first) + 1)
        return common / (max(node.last, last) - min(node.first, first) + 1), node.last - node.first

    return max(nodes, key=share)


def worth_of_title(gold: Mapping[str, Any], title: str) -> float:
    words = content_words(title)
    return max(f1(words, content_words(other)) for other in gold["titles"])


def worth_of_line(gold: Mapping[str, Any], line: str) -> float:
    """1 for a line that tells a fact; a little for one that tells a part of it."""
    share = max((fact_share(fact, content_words(line)) for fact in gold["facts"]), default=0.0)
    return 1.0 if share >= TOLD_SHARE else max(0.0, share - 0.3)


def leaf_options(closed: Closed, gold: Mapping[str, Any], use: str) -> Iterator[tuple[Features, float, str]]:
    section = read_section(closed.turns)
    salience = section_salience(section)
    outcomes, preceding = find_error_outcomes(section), assistant_messages(closed.before)
    described = [
        (statement, statement_features(statement, salience))
        for statement in find_statements(section, outcomes, preceding)
    ]
    if use == "line":
        for statement, features in described:
            text = one_line(statement.text)
            yield features, worth_of_line(gold, text), text
        return
    titled = [entry for entry in described if entry[0].may_be_title]
    titled.sort(key=lambda entry: -score(entry[1], START["title"]))
    for option in leaf_title_options(titled, salience, state_at_end(section)):
        yield option.features, worth_of_title(gold, option.title), option.title


def parent_options(
    children: Sequence[tuple[Node, Summary]], gold: Mapping[str, Any], use: str
) -> Iterator[tuple[Features, float, str]]:
    ranker = ParentRanker(children)
    if use == "parent_title":
        for option in ranker.title_options():
            yield option.features, worth_of_title(gold, option.title), option.title
        return
    for child, (_, summary) in enumerate(children):
        for rank, lines in enumerate(group_errors_with_ending(summary.highlights)):
            text = " ".join(as_title(line.text, LINE_CHARS) for line in lines)
            yield ranker.line_features(lines, child, rank), worth_of_line(gold, text), text


def read_histories(gold: Sequence[Mapping[str, Any]], data_path: Path) -> Iterator[tuple[str, list[Mapping[str, Any]]]]:
    """Yields the histories of a gold file with their turns: from DATA, else from transcripts in CTXMEM_EVAL_DIR."""
    named = dict.fromkeys(entry["history"] for entry in gold)
    with gzip.open(data_path, "rt", encoding="utf-8") as lines:
        for history in map(json.loads, lines):
            if history["id"] in named:
                del named[history["id"]]
                yield history["id"], history["turns"]
    for name in named:
        turns = transcript_in(eval_folder() / "transcripts" / name).turns
        yield name, [vars_of(turn) for turn in turns]


def vars_of(turn: NewTurn) -> dict[str, Any]:
    return {"role": turn.role, "content": turn.content, "name": turn.name, "call_id": turn.call_id}


def read_sections(gold: Sequence[dict[str, Any]], data_path: Path, use: str) -> list[Section]:
    """Returns the sections of one use with their options. Lines are trained only where people named facts."""
    sections = []
    of_parents, of_lines = use.startswith("parent"), use.endswith("line")
    wanted = [entry for entry in gold if bool(entry.get("level")) == of_parents and (entry["facts"] or not of_lines)]
    for name, turns in read_histories(wanted, data_path):
        nodes = build_tree(turns)
        summaries = summarize(nodes) if of_parents else {}
        candidates = [closed for closed in nodes if bool(closed.node.level) == of_parents]
        for entry in wanted:
            if entry["history"] != name:
                continue
            closed = nearest(candidates, entry)
            children = [(child.node, summaries[child.node.digest]) for child in closed.children if of_parents]
            options = parent_options(children, entry, use) if of_parents else leaf_options(closed, entry, use)
            if found := list(options):
                sections.append(Section(entry["history"], entry, found))
    return sections


class Trainer:
    """Fits the weights for one use."""

    def __init__(self, sections: Sequence[Section], use: str) -> None:
        self._use = use
        found = (name for section in sections for features, *_ in section.options for name in features)
        names = dict.fromkeys([*START[use], *found])
        self.names = list(names)
        at = {name: i for i, name in enumerate(self.names)}
        self._start = np.array([START[use].get(name, 0.0) for name in self.names])
        self._matrices = []
        for section in sections:
            matrix = np.zeros((len(section.options), len(at)))
            for row, (features, *_) in enumerate(section.options):
                for name, value in features.items():
                    matrix[row, at[name]] = value
            self._matrices.append((section, matrix, np.array([worth for _, worth, _ in section.options])))

    def fit(self, left_out: str = "") -> Array:
        """Returns the weights, fitted to all histories but one."""
        data = [(x, y) for section, x, y in self._matrices if section.history != left_out]
        weights, first, second = self._start.copy(), np.zeros_like(self._start), np.zeros_like(self._start)
        for step in range(1, STEPS + 1):
            gradient = self._gradient(data, weights)
            first = 0.9 * first + 0.1 * gradient
            second = 0.99 * second + 0.01 * gradient**2
            weights += 0.1 * (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.99**step)) + 1e-3)
        return weights

    def _gradient(self, data: Sequence[tuple[Array, Array]], weights: Array) -> Array:
        pull = PULL[self._use] * (weights - self._start)
        if self._use.endswith("line"):
            return sum(x.T @ (y - 1 / (1 + np.exp(-x @ weights))) for x, y in data) - pull
        total = np.zeros_like(weights)
        for x, y in data:
            scores = x @ weights
            chances = np.exp(scores - scores.max())
            chances /= chances.sum()
            total += x.T @ (chances * (y - chances @ y))
        return (total - 0.02 * pull) / len(data)

    def measure(self, weights: Array, history: str) -> Iterator[float]:
        """Yields the worth of each section's best title; or of each section's eight best lines, the share of the facts
        that they tell."""
        for section, x, _ in self._matrices:
            if section.history != history:
                continue
            order = np.argsort(-(x @ weights))
            if self._use.endswith("title"):
                yield section.options[order[0]][1]
                continue
            words = frozenset[str]().union(*(content_words(section.options[i][2]) for i in order[:6]))
            yield statistics.fmean(fact_share(fact, words) >= TOLD_SHARE for fact in section.gold["facts"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gold", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--write", action="store_true", help="write the weights into the package")
    parser.add_argument("--use", choices=[*START], action="append", help="weights to train; all of them by default")
    options = parser.parse_args()
    gold = [*json.loads(options.gold.read_text(encoding="utf-8")), *json.loads(OWN_TITLES.read_text(encoding="utf-8"))]
    only = "".join(f" --use {use}" for use in options.use or ())
    stored = json.loads(WEIGHTS.read_text(encoding="utf-8"))
    for use in options.use or START:
        sections = read_sections(gold, options.data, use)
        trainer = Trainer(sections, use)
        histories = list(dict.fromkeys(section.history for section in sections))
        unseen = [worth for h in histories for worth in trainer.measure(trainer.fit(h), h)]
        weights = trainer.fit()
        seen = [worth for h in histories for worth in trainer.measure(weights, h)]
        what = "F1" if use.endswith("title") else "facts told by six lines"
        print(
            f"{use:12s} {what}: {100 * statistics.fmean(unseen):.1f} left out, {100 * statistics.fmean(seen):.1f} seen"
        )
        stored["weights"][use] = {name: round(float(w), 3) for name, w in zip(trainer.names, weights, strict=True)}
        stored["provenance"][use] = (
            f"{date.today()}: python -m bench.train.titles {options.gold.name} {options.data.name}{only} --write"
        )
        if options.write:  # the next use is trained on what these weights make of the leaves
            WEIGHTS.write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
