"""The table of docs/agents.md that says which test drives what, checked against the tests and the table of agents."""

from __future__ import annotations

import re
from pathlib import Path

from ctxmem_mcp.agents import AGENTS

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "agents.md").read_text("utf-8")
NOT_DRIVEN, NOT_POSSIBLE = "not driven", "not possible"
OTHERS = "the others that `install` knows"


def _rows() -> dict[str, list[str]]:
    """The cells of each agent's row."""
    table = PAGE.partition("| agent | installs | tools connected |")[2].partition("\n\n")[0]
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    return {name: cells for name, *cells in lines}


def _tests() -> dict[str, tuple[str, str]]:
    """The file and the name of each test below the table, by its number."""
    found = re.findall(r"^(\d+)\. `(\S+)::(\w+)`$", PAGE, re.MULTILINE)
    return {number: (file, name) for number, file, name in found}


def test_every_cell_names_a_test_that_exists_or_says_that_there_is_none() -> None:
    rows, tests = _rows(), _tests()
    cells = [cell for row in rows.values() for cell in row]
    assert {len(row) for row in rows.values()} == {8}
    assert {cell for cell in cells if cell not in (NOT_DRIVEN, NOT_POSSIBLE)} == set(tests)
    for file, name in tests.values():
        assert re.search(rf"^(?:async )?def {name}\(", (ROOT / file).read_text("utf-8"), re.MULTILINE), (file, name)


def test_exactly_the_agents_with_a_tested_version_have_a_row() -> None:
    assert set(_rows()) - {OTHERS} == {agent.title for agent in AGENTS.values() if agent.tested}


def test_exactly_the_cells_that_are_not_possible_have_a_reason() -> None:
    columns = re.findall(r"^\| agent \| (installs \|.*) \|$", PAGE, re.MULTILINE)[0].split(" | ")
    cells = {
        (agent, columns[at]) for agent, row in _rows().items() for at, cell in enumerate(row) if cell == NOT_POSSIBLE
    }
    section = PAGE.partition("What is not possible, and why:\n\n")[2].partition("\n\n")[0]
    assert set(re.findall(r"^- ([^,]+), ([^:]+): \w", section, re.MULTILINE)) == cells
