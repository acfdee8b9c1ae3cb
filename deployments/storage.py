"""Where the folder of data and the database are: by the configuration, else by the environment.

`PARAFORMER_DATA_DIR` and `PARAFORMER_DATABASE_URL` are read here. The URL of a database may hold a
password, so it is read in the process that opens it, and is never part of an argument.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from deployments.service_settings import Storage

DATABASE_FILE = "state.db"


def data_dir(storage: Storage, environ: Mapping[str, str] = os.environ) -> Path:
    """The folder, as an absolute path. Nothing is made."""
    named = storage.data_dir or environ.get("PARAFORMER_DATA_DIR")
    default = Path.home() / ".local" / "share" / "paraformer-cluster"
    return Path(named or default).expanduser().absolute()


def database_url(storage: Storage, environ: Mapping[str, str] = os.environ) -> str:
    """What `database.connection.connect` opens. It may hold a password: write it nowhere."""
    named = storage.database_url or environ.get("PARAFORMER_DATABASE_URL")
    return named or f"sqlite:///{data_dir(storage, environ) / DATABASE_FILE}"


def in_data_dir(url: str) -> bool:
    """Whether the database is a file of one machine."""
    return url.startswith("sqlite:")


def check_placement(
    storage: Storage, environ: Mapping[str, str] = os.environ, *, n_nodes: int
) -> None:
    """Raises ValueError where each of several nodes would have a database file of its own.

    `n_nodes` counts the nodes of the cluster that are alive.
    """
    if n_nodes > 1 and in_data_dir(database_url(storage, environ)) and not storage.node_labels:
        raise ValueError(
            f"The database is a file, and the cluster has {n_nodes} nodes. Set "
            "storage.node_labels to the Ray labels of the node that has storage.data_dir, or set "
            "storage.database_url to a PostgreSQL server."
        )
