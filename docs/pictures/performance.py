#!/usr/bin/env python3
"""Draws docs/pictures/performance.svg from the measured numbers in performance.json.

    docs/pictures/performance.py
    docs/pictures/performance.py --check    fails if the picture does not match the numbers

docs/performance.md says how each number was measured.
"""

import html
import json
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
NUMBERS, PICTURE = HERE / "performance.json", HERE / "performance.svg"

WIDTH, PANEL, MARGIN = 920, 430, 22  # pixels
BAR, GAP, TOP = 22, 44, 92
COLOURS = {"ours": "#0969da", "other": "#8c959f", "floor": "#d0d7de"}
TEXT, QUIET = "#1f2328", "#57606a"


def text(x, y, words, colour=TEXT, size=13, weight="normal"):
    return (f'<text x="{x:g}" y="{y:g}" fill="{colour}" font-size="{size}" font-weight="{weight}">'
            f"{html.escape(words)}</text>")


def panel(left, content):
    """One diagram of horizontal bars: the label above each bar, its value behind it."""
    yield text(left, 42, content["title"], size=16, weight="bold")
    yield text(left, 62, content["unit"], QUIET, 12)
    bars = content["bars"]
    longest = max(bar["value"] for bar in bars)
    for number, bar in enumerate(bars):
        top = TOP + number * (BAR + GAP)
        width = (PANEL - 2 * MARGIN - 50) * bar["value"] / longest
        value = f"{bar['value']:,.{content['digits']}f}"
        yield text(left, top + 12, bar["label"])
        yield (f'<rect x="{left}" y="{top + 20}" width="{width:.1f}" height="{BAR}" rx="3" '
               f'fill="{COLOURS[bar["kind"]]}"/>')
        yield text(round(left + width + 8, 1), top + 36, value, weight="bold")


def picture(numbers):
    panels = numbers["panels"]
    height = TOP + max(len(content["bars"]) for content in panels) * (BAR + GAP) + 6
    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
             'font-family="DejaVu Sans, Helvetica, Arial, sans-serif">',
             f'<rect x=".5" y=".5" width="{WIDTH - 1}" height="{height - 1}" rx="8" fill="#ffffff" stroke="#d0d7de"/>']
    for number, content in enumerate(panels):
        lines += panel(MARGIN + 6 + number * (PANEL + MARGIN), content)
    return "\n".join([*lines, "</svg>", ""])


def main():
    drawn = picture(json.loads(NUMBERS.read_text()))
    if sys.argv[1:] == ["--check"]:
        if PICTURE.read_text() != drawn:
            sys.exit(f"{PICTURE} is not drawn from {NUMBERS.name}: run {Path(__file__).name}")
    elif sys.argv[1:]:
        sys.exit(__doc__)
    else:
        PICTURE.write_text(drawn)


if __name__ == "__main__":
    main()
