"""Stacks as a flame graph: sampled stacks become a tree of frames, and the tree one SVG.

A frame is as wide as its share of the samples, callees stand on their callers, siblings by name. The colour says whose
code it is. What holds less than PRUNED of the samples is left out: it stays as a gap beside its siblings.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from html import escape
from typing import NamedTuple

from bench.plot import text

WIDTH, MARGIN, HEAD, ROW = 1200, 8, 48, 16
CHARACTER = 6.2  # pixels of the font's average letter
PRUNED = 0.003
COLOURS = {
    "kernel": "#f0a36b",
    "engine": "#6fbf97",
    "interpreter": "#8fb4e3",
    "SQLite": "#d7a6dc",
    "library": "#d9d2a0",
    "process": "#c8c8c8",
}


class Frame(NamedTuple):
    """kind: a key of COLOURS."""

    name: str
    kind: str


Stack = tuple[Frame, ...]
"""From the outermost caller to the innermost callee."""


@dataclass
class Node:
    count: int = 0
    callees: dict[Frame, "Node"] = field(default_factory=dict)

    @property
    def depth(self) -> int:
        return 1 + max((callee.depth for callee in self.callees.values()), default=0)


def tree(stacks: Counter[Stack]) -> Node:
    root = Node(stacks.total())
    for stack, count in stacks.items():
        node = root
        for frame in stack:
            node = node.callees.setdefault(frame, Node())
            node.count += count
    return root


def pruned(node: Node, count_min: float) -> Node:
    kept = {frame: pruned(callee, count_min) for frame, callee in node.callees.items() if callee.count >= count_min}
    return Node(node.count, kept)


def kinds(stacks: Counter[Stack]) -> Counter[str]:
    """Samples by whose code ran: the innermost frame of each stack."""
    counts: Counter[str] = Counter()
    for stack, count in stacks.items():
        counts[stack[-1].kind] += count
    return counts


def svg(title: str, stacks: Counter[Stack], pruned_share: float = PRUNED) -> str:
    """The whole picture. ValueError without a sample."""
    if not stacks:
        raise ValueError("no samples: nothing ran while it was looked at")
    root = pruned(tree(stacks), pruned_share * stacks.total())
    height = HEAD + root.depth * ROW + MARGIN
    boxes = _boxes(root, MARGIN, height - MARGIN, (WIDTH - 2 * MARGIN) / root.count, root.count)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" font-family="sans-serif">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        text(MARGIN, 16, title),
        *_legend({frame.kind for stack in stacks for frame in stack}),
        *boxes,
    ]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _boxes(node: Node, left: float, bottom: float, scale: float, total: int) -> Iterator[str]:
    for frame, callee in sorted(node.callees.items()):
        width = callee.count * scale
        shown = f"{frame.name}, {callee.count / total:.1%}"
        yield (
            f'<g><title>{escape(shown)}</title><rect x="{left:.1f}" y="{bottom - ROW:.0f}" '
            f'width="{max(width - 0.4, 0.4):.1f}" height="{ROW - 1}" fill="{COLOURS[frame.kind]}"/>'
        )
        room = int((width - 4) / CHARACTER)
        if room >= 3:
            fitting = next((words for words in (shown, frame.name) if len(words) <= room), frame.name[: room - 1] + "…")
            yield text(left + 3, bottom - 4.5, fitting)
        yield "</g>"
        yield from _boxes(callee, left, bottom - ROW, scale, total)
        left += width


def _legend(present: Iterable[str]) -> list[str]:
    parts, x = [], MARGIN
    for kind in (name for name in COLOURS if name in set(present)):
        parts.append(f'<rect x="{x}" y="26" width="12" height="12" fill="{COLOURS[kind]}"/>')
        parts.append(text(x + 16, 36, kind))
        x += 100
    return parts
