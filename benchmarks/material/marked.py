"""A folder of objects as the service leaves it: with the marker that says that it is there."""

from __future__ import annotations

from pathlib import Path

from deployments.objects import MARKER, Objects, folder_objects


def marked_folder(folder: Path) -> Objects:
    """The objects of the folder, which is made where it does not exist."""
    objects = folder_objects(folder)
    (folder / MARKER).touch()
    return objects
