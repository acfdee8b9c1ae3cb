"""What the demo shows: the steps, the transcript as a table, the summary, and a picture of all."""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from deployments.core.formats import seconds
from deployments.core.types import Transcript

REPLICA_CHARS = 8  # of Ray's long names, enough to tell the replicas apart
CELL_WIDTH = 12.2  # of Rich's pictures: 0.61 of a font of 20 units
FONTS = "Menlo, Consolas, 'DejaVu Sans Mono', 'Liberation Mono', monospace"


@dataclass
class Screen:
    """The terminal: what stays on it, and the spinners and bars that vanish when they are done."""

    lasting: Console  # recorded where a picture is asked for
    passing: Console

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        """A spinner while the step takes place; one plain line where there is no terminal."""
        if not self.passing.is_terminal:
            self.passing.print(f"{what} ...")
            yield
            return
        with self.passing.status(f"{what} ..."):
            yield

    def say(self, text: str = "", *, style: str = "") -> None:
        """A lasting paragraph."""
        self.lasting.print(Text(text, style=style))


@dataclass
class Story:
    """What is told after the transcript: times, and notes on what could be better."""

    notes: list[str] = field(default_factory=list)
    fetch_s: float = 0.0
    start_s: float = 0.0
    first_text_s: float = 0.0  # from the upload's first byte
    wall_s: float = 0.0


def show(transcript: Transcript, screen: Screen) -> None:
    """Each segment: when it was said, which replica recognised it, and the words."""
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("from", justify="right", style="cyan")
    table.add_column("to", justify="right", style="cyan")
    table.add_column("pool", style="magenta")
    table.add_column("replica", style="blue")
    table.add_column("text", overflow="fold")
    for segment in transcript.segments:
        start, end = f"{seconds(segment.start_ms):.2f}", f"{seconds(segment.end_ms):.2f}"
        text = segment.text if segment.error is None else f"({segment.error})"
        table.add_row(start, end, segment.pool, short(segment.replica), Text(text))
    screen.lasting.print(table)


def short(replica: str) -> str:
    """Enough of a replica's name to tell the replicas apart."""
    return replica[:REPLICA_CHARS]


def sum_up(transcript: Transcript, screen: Screen, story: Story) -> None:
    """How fast it was, which replicas did it, and the notes last."""
    audio_s, busy_s = seconds(transcript.duration_ms), transcript.wall_ms / 1000
    screen.say()
    screen.say(
        f"{transcript.model} transcribed {audio_s:.0f} s in {busy_s:.1f} s "
        f"({audio_s / busy_s:.1f} x real time). "
        f"The first words came after {story.first_text_s:.1f} s.",
        style="bold",
    )
    done = Counter((s.pool, short(s.replica)) for s in transcript.segments)
    shares = [
        f"{n} by replica {replica} of pool {pool}" for (pool, replica), n in done.most_common()
    ]
    screen.say(f"Segments: {', '.join(shares)}.")
    fetching = f"{story.fetch_s:.0f} s to fetch weights, " if story.fetch_s else ""
    screen.say(
        f"The whole demo took {story.wall_s:.0f} s, of which {fetching}"
        f"{story.start_s:.0f} s to start Ray and load the models."
    )
    for note in story.notes:
        screen.say()
        screen.say(note, style="yellow")


def svg_of(recorded: Console) -> str:
    """What the console printed as an SVG that needs no font from elsewhere.

    Rich makes each run of text as long as if every character took one cell. A Chinese one takes
    two.
    """
    svg = recorded.export_svg(title="make demo", unique_id="demo")
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    svg = svg.replace("Fira Code, monospace", FONTS)
    svg = svg.replace("font-variant-east-asian: full-width;", "")  # widens a hyphen in some fonts
    return re.sub(r'textLength="[\d.]+"([^>]*)>([^<]*)<', _with_wide_characters, svg)


def _with_wide_characters(run: re.Match[str]) -> str:
    shown = re.sub(r"(&#160;|\s)+$", "", run[2])  # else the blanks that fill a row are spread out
    width = cell_len(html.unescape(shown)) * CELL_WIDTH
    return f'textLength="{width:.1f}"{run[1]}>{shown}<'
