"""The options of the commands for jobs."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from clients.options import Option
from deployments.core.formats import FORMATS
from deployments.core.jobs.model import STATES

JOB_FORMATS = (*FORMATS, "lrc", "docx")
BINARY = ("docx",)

States = StrEnum("States", {state: state for state in STATES})  # type: ignore[misc]


def known_job_format(name: str) -> str:
    if name not in JOB_FORMATS:
        raise typer.BadParameter(f"{name!r} is not one of {', '.join(JOB_FORMATS)}.")
    return name


def json_object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise typer.BadParameter("It is a JSON object.")
    return found


Sources = Annotated[list[str], typer.Argument(metavar="FILE|URL...", help="Each becomes a job.")]
JobIds = Annotated[list[str], typer.Argument(metavar="JOB...", help="Ids, as submit prints them.")]
JobId = Annotated[str, typer.Argument(metavar="JOB", help="An id, as submit prints it.")]
Together = Annotated[bool, Option("--together", help="One job of all URLs.")]
Name = Annotated[str | None, Option(help="What lists show; default: the file's name.")]
Priority = Annotated[int, Option(min=-100, max=100, help="Higher ones are worked at first.")]
ExpiresS = Annotated[
    float | None, Option("--expires-after", min=1, help="Seconds in which the work has to begin.")
]
Metadata = Annotated[
    dict[str, Any] | None,
    Option(parser=json_object, metavar="JSON", help="An object that the job shows again."),
]
Webhook = Annotated[str | None, Option(help="A URL that is told of the end.")]
JobFormat = Annotated[
    str,
    Option(
        "--format",
        "-f",
        parser=known_job_format,
        metavar="|".join(JOB_FORMATS),
        help="Format of the transcript.",
    ),
]
FileNumber = Annotated[int, Option("--file", min=0, help="The file of the job, from 0.")]
Edited = Annotated[bool, Option("--edited", help="With the texts that people have edited.")]
Output = Annotated[
    Path | None, Option("--output", "-o", metavar="PATH", help="Write PATH instead of stdout.")
]
Chosen = Annotated[list[States] | None, Option("--state", help="Only these; may be repeated.")]
Limit = Annotated[int, Option(min=1, max=100, help="Jobs of one page.")]
After = Annotated[str | None, Option(help="The cursor that the page before has printed.")]
