#!/usr/bin/env python3
"""Records a load in a terminal, and draws it: docs/pictures/terminal.svg.

    pip install --target target/pictures-python pyte
    cargo build --release && PYTHONPATH=target/pictures-python python3 docs/pictures/record.py

The program, that of MEGASTREAM_INGEST or else the newest build, loads generated archives into a slow server, on a
pseudo-terminal of 100 columns. A terminal emulator reads its output. Two screens are drawn: one from the middle of the
load, and the last one, from the report on.
"""

import fcntl
import html
import os
import pty
import re
import select
import struct
import subprocess
import sys
import tempfile
import termios
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1] / "tests" / "deploy"), str(HERE.parents[1] / "tests" / "e2e")]

import fleet
import pyte
from fake import Fake

COLUMNS, LINES = 100, 40
CHARACTER, LINE = 8.43, 18  # pixels
BACKGROUND, BORDER, TEXT, BRIGHT = "#1b1f24", "#3b424a", "#c9d1d9", "#ffffff"
COLOURS = {"green": "#7ee787", "red": "#ff7b72", "brown": "#e3b341", "yellow": "#e3b341", "cyan": "#79c0ff",
           "blue": "#79c0ff", "magenta": "#d2a8ff"}


def record(folder):
    """The command, the screen from the middle and the last screen."""
    archives = fleet.make_archives(folder / "archives", 24, rows=400)
    # One odd row, as there are some in every year: the table says what to do about it.
    fleet.write_archive(archives[3], [("at://did:plc:odd/app.bsky.feed.post/1", "did:plc:odd", "no JSON", "{}")])
    server = Fake()
    server.delay = (0.05, 0.15)
    screen = pyte.Screen(COLUMNS, LINES)
    stream = pyte.ByteStream(screen)
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    environment = {"ELASTICSEARCH_URL": server.url, "ELASTICSEARCH_API_KEY": server.api_key, "TERM": "xterm",
                   "PATH": os.environ["PATH"]}
    # Without a line for each archive.
    environment["RUST_LOG"] = "error,megastream_ingest::run=info,megastream_ingest::observe=info"
    program = subprocess.Popen([fleet.binary(), "archives"], cwd=folder, env=environment, stdin=theirs, stdout=theirs,
                               stderr=theirs)
    os.close(theirs)
    middle = None
    while True:
        select.select([ours], [], [], 1)
        try:
            data = os.read(ours, 65536)
        except OSError:
            break
        if not data:
            break
        stream.feed(data)
        shown = re.search(r"\] (\d+)%", "\n".join(screen.display))
        if middle is None and shown and int(shown[1]) >= 55 and "rows/s" in "\n".join(screen.display):
            middle = lines(screen)
    program.wait()
    server.close()
    if middle is None:
        sys.exit("the load was over before the bar was seen: give the server more time")
    end = lines(screen)
    starts_with = lambda words: lambda line: line[0][0].startswith(words)
    first = lambda screen, is_first: next(number for number, line in enumerate(screen) if is_first(line))
    # The log above the bar names the temporary folder.
    return middle[first(middle, starts_with("[=")):], end[first(end, starts_with("Exit code")):]


def lines(screen):
    """The lines of a screen, each a list of (text, colour, whether it is bold); empty ones around are left out."""
    found = []
    for number in range(LINES):
        cells, line = screen.buffer[number], []
        for column in range(COLUMNS):
            cell = cells[column]
            style = (COLOURS.get(cell.fg, TEXT), cell.bold)
            if line and line[-1][1:] == style:
                line[-1] = (line[-1][0] + cell.data, *style)
            else:
                line.append((cell.data, *style))
        found.append(line)
    is_empty = lambda line: not "".join(text for text, *_ in line).strip()
    while found and is_empty(found[-1]):
        found.pop()
    while found and is_empty(found[0]):
        found.pop(0)
    return found


def draw(screens):
    """One picture of several screens, one below the other, each with its title above it."""
    width = COLUMNS * CHARACTER + 32
    parts, y = [], 0
    for title, screen in screens:
        height = len(screen) * LINE + 44
        parts.append(f'<g transform="translate(0,{y})"><rect x=".5" y=".5" width="{width - 1:.0f}" height="{height - 1}" '
                     f'rx="8" fill="{BACKGROUND}" stroke="{BORDER}"/>'
                     f'<text x="16" y="21" fill="#8b949e" font-size="12">{html.escape(title)}</text>')
        for number, line in enumerate(screen):
            x = 16.0
            for text, colour, bold in line:
                weight = ' font-weight="bold"' if bold else ""
                # Each column is placed separately, whatever the width of the font.
                for words in re.finditer(r"\S+( \S+)*", text):
                    parts.append(f'<text x="{x + words.start() * CHARACTER:.1f}" y="{46 + number * LINE}" '
                                 f'textLength="{len(words[0]) * CHARACTER:.1f}" fill="{BRIGHT if bold else colour}"{weight}>'
                                 f"{html.escape(words[0])}</text>")
                x += len(text) * CHARACTER
        parts.append("</g>")
        y += height + 12
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {y - 12}" width="{width:.0f}" '
            f'font-family="DejaVu Sans Mono, Menlo, Consolas, monospace" font-size="14">\n' + "\n".join(parts) + "\n</svg>\n")


def main():
    with tempfile.TemporaryDirectory() as folder:
        middle, last = record(Path(folder))
    command = "megastream_ingest archives"
    picture = draw([(f"$ {command}", middle), ("at the end", last)])
    (HERE / "terminal.svg").write_text(picture)


if __name__ == "__main__":
    main()
