"""What the deployment checks of a job that comes over a handle."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from deployments.config import Limits
from deployments.core.errors import AsrError, BadRequest, InvalidAudio, UploadTooLarge, UrlRefused
from deployments.core.jobs.model import NewFile
from deployments.jobs.sources import check
from deployments.service_settings import Fetch, JobsSettings
from tests.jobs.test_store import job

LIMITS, SETTINGS = Limits(max_upload_mb=1), JobsSettings(max_files=2)
FETCH = Fetch(enabled=True, buckets=("s3://calls",))
BYTES = np.zeros(1_000_000, np.uint8)


def of_urls(*urls: str) -> Any:
    return job(files=tuple(NewFile("a", url=url) for url in urls))


@pytest.mark.parametrize(
    ("new", "upload"),
    [
        (job(), BYTES),
        (of_urls("s3://calls/a.mp3", "https://example.com/a.mp3"), None),
    ],
    ids=["upload", "urls"],
)
def test_a_job_within_the_limits_passes(new: Any, upload: Any) -> None:
    assert check(new, upload, LIMITS, FETCH, SETTINGS) is None  # it raises nothing


@pytest.mark.parametrize(
    ("new", "upload", "kind"),
    [
        (job(), np.zeros(1_000_001, np.uint8), UploadTooLarge),
        (job(), np.zeros(0, np.uint8), InvalidAudio),
        (of_urls(*["s3://calls/a"] * 3), None, BadRequest),
        (of_urls("s3://secrets/a.mp3"), None, UrlRefused),
        (of_urls("https://example.com:22/a.mp3"), None, UrlRefused),
        (of_urls(""), None, UrlRefused),
        (replace(job(), webhook_url="https://example.com"), BYTES, BadRequest),
    ],
    ids=["too large", "empty", "too many", "bucket", "port", "no url", "webhook"],
)
def test_any_other_is_refused(new: Any, upload: Any, kind: type[AsrError]) -> None:
    with pytest.raises(kind):
        check(new, upload, LIMITS, FETCH, SETTINGS)


def test_urls_are_refused_where_none_is_fetched() -> None:
    with pytest.raises(UrlRefused, match=r"fetch\.enabled"):
        check(of_urls("https://example.com/a.mp3"), None, LIMITS, Fetch(), SETTINGS)
