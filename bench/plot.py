"""A result as one SVG: per point the latency histogram and the throughput over time of every server."""

from html import escape
from math import ceil, floor, log10
from typing import Any

PANEL_WIDTH, PANEL_HEIGHT, MARGIN, GAP = 460, 170, 56, 40
COLOURS = {
    "chatd": "#0b6e4f",
    "nats": "#2b6cb0",
    "redis": "#c53030",
    "redis-streams": "#c53030",
    "mosquitto": "#805ad5",
    "postgres": "#b7791f",
}
Curve = list[tuple[float, float]]


def svg(document: dict[str, Any]) -> str:
    """The whole picture. Points without latency or series (idle) have an empty panel."""
    works = list(dict.fromkeys(row["work"] for row in document["rows"]))
    height = MARGIN + len(works) * (PANEL_HEIGHT + 2 * GAP)
    width = 2 * (PANEL_WIDTH + MARGIN) + MARGIN
    machine = document["machine"]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        text(MARGIN, 20, f"{machine['cpu']}, {machine['kernel']}, commit {machine['commit']}, {machine['time']}"),
        *_legend({row["server"] for row in document["rows"]}),
    ]
    for number, work in enumerate(works):
        rows = [row for row in document["rows"] if row["work"] == work]
        top = MARGIN + GAP + number * (PANEL_HEIGHT + 2 * GAP)
        parts.append(text(MARGIN, top - 12, work, 'font-weight="bold"'))
        latency = {row["server"]: _shares(row.get("histogram_us") or []) for row in rows}
        rates = {row["server"]: [(at / 1000, rate) for at, rate in row.get("series") or []] for row in rows}
        parts += _panel(MARGIN, top, "latency, ms", "share, %", latency, logarithmic=True)
        parts += _panel(2 * MARGIN + PANEL_WIDTH, top, "s", "per s", rates, logarithmic=False)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _shares(buckets: list[tuple[float, int]]) -> Curve:
    """(ms, % of the operations) in ten steps per power of ten: the histogram's own buckets are finer than a pixel."""
    total = sum(count for _, count in buckets)
    steps: dict[int, int] = {}
    for upper_us, count in buckets:
        step = floor(log10(max(upper_us, 1e-3) / 1000) * 10)
        steps[step] = steps.get(step, 0) + count
    return [(10 ** (step / 10), 100 * count / total) for step, count in sorted(steps.items())]


def _panel(
    left: float, top: float, x_name: str, y_name: str, curves: dict[str, Curve], *, logarithmic: bool
) -> list[str]:
    points = [point for curve in curves.values() for point in curve]
    if len(points) < 2:
        return []
    low, high = min(x for x, _ in points), max(x for x, _ in points)
    if logarithmic:
        low, high = 10 ** floor(log10(low)), 10 ** ceil(log10(high * 1.0001))
    else:
        low = 0
    highest = max(y for _, y in points) * 1.05 or 1

    def place(x: float, y: float) -> tuple[float, float]:
        share = log10(x / low) / log10(high / low) if logarithmic else (x - low) / (high - low)
        return left + share * PANEL_WIDTH, top + PANEL_HEIGHT * (1 - y / highest)

    parts = [
        f'<rect x="{left}" y="{top}" width="{PANEL_WIDTH}" height="{PANEL_HEIGHT}" fill="none" stroke="#999"/>',
        text(left + PANEL_WIDTH, top + PANEL_HEIGHT + 26, x_name, 'text-anchor="end"'),
        text(left, top - 1, y_name, 'text-anchor="end"'),
    ]
    for x in _ticks(low, high, logarithmic=logarithmic):
        at, _ = place(x, 0)
        parts.append(f'<path d="M{at:.1f} {top}v{PANEL_HEIGHT}" stroke="#eee"/>')
        parts.append(text(at, top + PANEL_HEIGHT + 13, f"{x:g}", 'text-anchor="middle"'))
    parts += [text(left - 4, place(low, y)[1] + 4, _short(y), 'text-anchor="end"') for y in (0, highest / 2, highest)]
    for server, curve in curves.items():
        if len(curve) > 1:
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in curve))
            colour = COLOURS.get(server, "#444")
            parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.6"/>')
    return parts


def _ticks(low: float, high: float, *, logarithmic: bool) -> list[float]:
    if logarithmic:
        return [10.0**power for power in range(round(log10(low)), round(log10(high)) + 1)]
    return [low + (high - low) * step / 4 for step in range(5)]


def _short(value: float) -> str:
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def _legend(servers: set[str]) -> list[str]:
    parts, x = [], MARGIN
    for server in (name for name in COLOURS if name in servers):
        parts.append(f'<rect x="{x}" y="30" width="14" height="4" fill="{COLOURS[server]}"/>')
        parts.append(text(x + 18, 36, server))
        x += 110
    return parts


def text(x: float, y: float, text: str, more: str = "") -> str:
    return f'<text font-size="11" x="{x:.1f}" y="{y:.1f}" {more}>{escape(text)}</text>'
