"""The settings of what surrounds recognition: URLs, storage and jobs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from deployments.outgoing.allowed import Allowed, allowed
from deployments.settings import Cores, MaxOngoing, MinReplicas, Replicas, Settings, Target


class Fetch(Settings):
    """Recordings that the service fetches from a URL, which the field `url` of a request names."""

    enabled: bool = False
    """With true the service fetches URLs. With false a request with a `url` gets a 400."""

    allow_hosts: tuple[str, ...] = ()
    """Hosts of your own network that URLs may name: `files.corp` (80, 443) or `minio:9000`."""

    allow_networks: tuple[str, ...] = ()
    """Networks, such as `10.20.0.0/16`, whose addresses count as public ones do."""

    buckets: tuple[str, ...] = ()
    """Buckets whose objects jobs may name, such as `s3://calls` or `oss://calls`."""

    timeout_s: float = Field(300.0, gt=0)
    """Seconds to fetch one recording, redirects included. A request that meets it gets a 504."""

    @property
    def allowed(self) -> Allowed:
        """Where URLs may lead."""
        return allowed(self.allow_hosts, self.allow_networks)

    @model_validator(mode="after")
    def _can_be_read(self) -> Fetch:
        _ = self.allowed  # raises ValueError
        return self


class Storage(Settings):
    """Where jobs, their recordings and results, and keys are kept. All of it survives a restart."""

    data_dir: Path | None = None
    """A folder. Null: `PARAFORMER_DATA_DIR`, else ~/.local/share/paraformer-cluster."""

    database_url: str | None = None
    """`postgresql://USER@HOST/NAME`. Null: `PARAFORMER_DATABASE_URL`, else SQLite in `data_dir`."""

    objects_url: str | None = None
    """`s3://BUCKET/PREFIX`, or `oss://` or `gs://`. Null: a folder in `data_dir`."""

    node_labels: dict[str, str] = Field({})
    """Ray labels of the node that has `data_dir`. Needed where a cluster has several nodes."""


class JobsSettings(Replicas):
    """The deployment that keeps transcription jobs and works at them."""

    num_cpus: Cores = 0.2
    min_replicas: Annotated[MinReplicas, Field(ge=1)] = 1
    max_ongoing_requests: MaxOngoing = 256
    target_ongoing_requests: Target = 64.0

    enabled: bool = False
    """With true the service takes jobs at /v1/transcription-jobs."""

    max_running: int = Field(2, ge=1)
    """Files that one replica works at at the same time; more wait."""

    max_backlog_s: float = Field(60.0, gt=0)
    """A file begins only while the pools need less than these seconds for the jobs they have."""

    max_waiting: int = Field(10_000, ge=1)
    """Files of one key that may wait or be worked at. A job beyond gets a 429."""

    max_files: int = Field(100, ge=1)
    """Most files of one job."""

    lease_s: float = Field(15.0, gt=0)
    """Seconds after which another worker takes a file whose worker has died."""

    max_attempts: int = Field(5, ge=1)
    """Attempts that may fail, for a reason that may pass, before a file is given up."""

    keep_hours: float = Field(168.0, gt=0)
    """Hours after its end for which a job is kept, with its recordings and its results."""

    webhooks: bool = False
    """With true a job may name a URL that is told of its end. `fetch` says where URLs may lead."""
