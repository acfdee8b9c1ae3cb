"""The settings of what surrounds recognition: URLs, storage, keys and jobs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import ConfigDict, Field, field_validator, model_validator

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

    model_config = ConfigDict(hide_input_in_errors=True)  # for whoever reads this section alone

    @field_validator("database_url")
    @classmethod
    def _has_no_password(cls, url: str | None) -> str | None:
        """Ray writes the configuration into its logs."""
        if url is not None and urlsplit(url).password is not None:
            raise ValueError("a URL with a password belongs into PARAFORMER_DATABASE_URL")
        return url


class KeysSettings(Settings):
    """Who may use the service. `PARAFORMER_API_KEYS` has keys too, with commas between them."""

    required: bool = False
    """With true every request needs a key. It goes without saying where a key is configured."""

    database: bool = False
    """With true keys and their usage are in the database: `python -m deployments.keys add NAME`."""

    file: Path | None = None
    """A file with a key on each line, which others must not be able to read."""

    serve_without_keys_beyond_loopback: bool = False
    """With true everybody may use the service, also from other machines, if there is no key."""

    max_concurrent: int | None = Field(None, ge=1)
    """Requests that one key may have under way, unless the key says it. One more gets a 429."""

    audio_s_per_minute: float | None = Field(None, gt=0)
    """Seconds of audio that one key may send in a minute, unless the key says it."""

    audio_s_per_day: float | None = Field(None, gt=0)
    """Seconds of audio that one key may send in a day in UTC, unless the key says it."""

    max_upload_mb: float | None = Field(None, gt=0)
    """Largest upload with one key, unless the key says it, and at most `limits.max_upload_mb`."""

    max_waiting_files: int | None = Field(None, ge=1)
    """Files of jobs that one key may have waiting or under way, unless the key says it."""

    session_hours: float = Field(12.0, gt=0)
    """Hours for which a browser stays signed in."""


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
