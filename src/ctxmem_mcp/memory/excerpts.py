"""The excerpts that a view should show, and how they fit its budget: reads what the layout needs in a few batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ctxmem_mcp.memory.branch_reader import BranchReader, outline_nodes, span_checks, with_expanded, with_paths_to
from ctxmem_mcp.memory.outline_summaries import OutlineSummaries
from ctxmem_mcp.memory.replaced_turns import Replacement, replaced_by
from ctxmem_mcp.memory.retrieve import RankedPiece
from ctxmem_mcp.models import HighlightKinds, Node, Piece, Turn
from ctxmem_mcp.views.budget import Draft, FitResult, fit_outline, fit_quotes, greedy_fit
from ctxmem_mcp.views.excerpt_groups import ExcerptGroup, ExcerptRef, clip, quotes_by_turn, with_replacements
from ctxmem_mcp.views.layout import CharSpan, OmittedCache, TileCache, TreeSnapshot, tile, tile_compactly
from ctxmem_mcp.views.page_layout import OUTLINE_SHARE_MAX, FitInput
from ctxmem_mcp.views.render import NO_KIND_FILTER

# Excerpts are selected by estimate for this many budgets, so that the exact fit has spare ones.
ESTIMATE_SLACK, ESTIMATE_SLACK_TOKENS = 1.25, 1_000
# A call of up to this size is shown with its result; a longer one only if it is chosen itself.
CALL_TOKENS_MAX = 200
# A line of the outline on its own, and with its highlights.
OUTLINE_LINE_TOKENS, HIGHLIGHT_LINE_TOKENS = 24, 70
# Beyond the end of any turn, for one whose length was not read yet.
_ALL = 1 << 40
# Shorter ones ("ok", "yes") cost little to repeat, and their place matters.
REPEAT_CHARS_MIN = 200


@dataclass(frozen=True, slots=True)
class Selection:
    """What a view should show.

    Attributes:
        groups: excerpts, best first.
        leaf_of: by index of a turn, the first index of its leaf.
        outline_share: the largest share of the budget that the outline may take.
        kinds: of highlights in the outline; any that fit if empty.
        fillers: excerpts for the room that is left at the end, best first.
        compact: the outline has one line for all turns between two quotes.
        replaced: id of the turn that replaced another, by the index of the replaced one.
    """

    groups: list[ExcerptGroup]
    leaf_of: dict[int, int]
    outline_share: float = OUTLINE_SHARE_MAX
    kinds: HighlightKinds = NO_KIND_FILTER
    fillers: Sequence[ExcerptGroup] = ()
    compact: bool = False
    replaced: Mapping[int, str] = field(default_factory=dict)

    def with_replacements(self, found: Mapping[int, Replacement]) -> Selection:
        """Marks the turns that later ones replaced, and selects with each of them the later one."""
        if not found:
            return self
        later = {index: ExcerptGroup((excerpt(one.piece),)) for index, one in found.items()}
        return replace(
            self,
            groups=with_replacements(self.groups, later),
            fillers=with_replacements(self.fillers, later),
            leaf_of=self.leaf_of | {one.piece.index: one.piece.leaf for one in found.values()},
            replaced=replaced_by(found),
        )


async def fit_selection(
    branch: BranchReader,
    snapshot: TreeSnapshot,
    selection: Selection,
    budget: int,
    count: Callable[[str], int],
    *,
    request_summaries: bool = False,
) -> FitResult | int:
    groups, leaf_of = [*selection.groups, *selection.fillers], selection.leaf_of
    leaf_first = None if selection.compact else lambda index: leaf_of.get(index, snapshot.tail_first)
    chosen = greedy_fit(groups, leaf_first, round(budget * ESTIMATE_SLACK) + ESTIMATE_SLACK_TOKENS)
    groups = [groups[i] for i in chosen]
    snapshot = await with_paths_to(branch, snapshot, indexes_of(groups))
    groups = _with_calls(groups, snapshot)
    turns = await branch.turns(indexes_of(groups))
    groups = _without_repeats(groups, turns)
    filling = indexes_of(selection.fillers) - indexes_of(selection.groups)
    groups.sort(key=lambda group: group.excerpts[-1].index in filling)
    leading = sum(group.excerpts[-1].index not in filling for group in groups)
    line_tokens = HIGHLIGHT_LINE_TOKENS if selection.kinds else OUTLINE_LINE_TOKENS
    lines = round(budget * selection.outline_share / line_tokens)
    omitted = OmittedCache()
    if selection.compact:
        nodes = outline_nodes(tile_compactly(snapshot, quotes_by_turn(groups, turns), omitted))
    else:
        snapshot, nodes = await _expand_outline(branch, snapshot, groups, leading, turns, lines)
    summaries = OutlineSummaries(branch, nodes)
    if not selection.compact:
        await summaries.read(nodes)
    fit_input = FitInput(
        snapshot, groups, turns, summaries.of, count, selection.outline_share,
        selection.kinds, checks=await span_checks(branch, snapshot), leading=leading, compact=selection.compact,
        omitted_cache=omitted, replaced=selection.replaced, title_of=summaries.title,
    )  # fmt: skip
    result = fit_quotes(fit_input, budget)
    if isinstance(result, Draft):
        if selection.compact:
            await summaries.read_shown(result.layout.items)
        result = fit_outline(result, budget)
    if request_summaries and not isinstance(result, int):
        result.summary_requests = await summaries.to_request(result.items)
    return result


def excerpt_group(found: RankedPiece) -> ExcerptGroup:
    return ExcerptGroup((excerpt(found.piece),))


def excerpt(piece: Piece) -> ExcerptRef:
    return ExcerptRef(piece.index, CharSpan(piece.start, piece.stop, piece.tokens))


def indexes_of(groups: Iterable[ExcerptGroup]) -> set[int]:
    return {excerpt.index for group in groups for excerpt in group.excerpts}


def _with_calls(groups: Sequence[ExcerptGroup], snapshot: TreeSnapshot) -> list[ExcerptGroup]:
    """Adds to each result the call that it answers, if that is short."""
    call_of: dict[int, Turn] = {}
    for turns in snapshot.leaves.values():
        call_of |= _calls(turns)
    return [
        ExcerptGroup((ExcerptRef(call.index, CharSpan(0, _ALL, call.tokens)), *group.excerpts))
        if (call := call_of.get(group.excerpts[0].index)) and call.tokens <= CALL_TOKENS_MAX
        else group
        for group in groups
    ]


def _calls(turns: Sequence[Turn]) -> dict[int, Turn]:
    """Returns the call of each result, by the result's index: the one with its call id, else the turn before."""
    found: dict[int, Turn] = {}
    by_id: dict[str, Turn] = {}
    for before, turn in zip([None, *turns], turns, strict=False):
        if turn.role != "tool":
            if turn.call_id:
                by_id[turn.call_id] = turn
        elif turn.call_id in by_id:
            found[turn.index] = by_id[turn.call_id]
        elif before is not None and before.role == "assistant":
            found[turn.index] = before
    return found


def _without_repeats(groups: Sequence[ExcerptGroup], turns: dict[int, Turn]) -> list[ExcerptGroup]:
    """Drops all but the newest of excerpts with the same text; it takes the rank of the best."""
    newest: dict[str, int] = {}
    keys: list[str] = []
    for group in groups:
        excerpt = group.excerpts[-1]
        text = turns[excerpt.index].content[excerpt.span.start : excerpt.span.stop].strip()
        keys.append(text if len(text) >= REPEAT_CHARS_MIN else f"{excerpt.index}:{excerpt.span.start}")
        newest[keys[-1]] = max(newest.get(keys[-1], -1), excerpt.index)
    by_key = {key: group for key, group in zip(keys, groups, strict=True) if group.excerpts[-1].index == newest[key]}
    return [clip(by_key[key], turns) for key in dict.fromkeys(keys)]


async def _expand_outline(
    branch: BranchReader,
    snapshot: TreeSnapshot,
    groups: Sequence[ExcerptGroup],
    leading: int,
    turns: dict[int, Turn],
    lines: int,
) -> tuple[TreeSnapshot, list[Node]]:
    """Expands the outline beside the leading groups to about this many lines; returns the nodes that it may show."""
    shown, tiled = quotes_by_turn(groups[:leading], turns), TileCache()
    if lines:
        snapshot = await with_expanded(branch, snapshot, tile(snapshot, shown, tiled), lines)
    nodes = outline_nodes(tile(snapshot, shown, tiled))
    if leading < len(groups):
        nodes += outline_nodes(tile(snapshot, quotes_by_turn(groups, turns)))
    return snapshot, nodes
