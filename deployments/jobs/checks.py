"""What the HTTP front checks of a new job, for a job that comes over a Ray handle instead."""

from __future__ import annotations

from deployments.config import Limits
from deployments.core.errors import BadRequest, InvalidAudio, UploadTooLarge, UrlRefused
from deployments.core.jobs.model import NewJob
from deployments.core.types import Upload
from deployments.outgoing.bucket_urls import check_bucket_url, is_bucket_url
from deployments.outgoing.urls import parsed
from deployments.service_settings import Fetch, JobsSettings

BYTES_PER_MB = 1_000_000


def check(
    job: NewJob, upload: Upload | None, limits: Limits, fetch: Fetch, settings: JobsSettings
) -> None:
    """Raises BadRequest, UrlRefused, InvalidAudio and UploadTooLarge.

    `upload` is the recording of the job's only file; None for a job of URLs.
    """
    if len(job.files) > settings.max_files:
        raise BadRequest(f"A job has at most {settings.max_files} files.", "url")
    if job.webhook_url and not settings.webhooks:
        raise BadRequest("Webhooks are off: the setting is jobs.webhooks.", "webhook")
    if upload is not None:
        if not len(upload):
            raise InvalidAudio("The file is empty.")
        if len(upload) > limits.max_upload_mb * BYTES_PER_MB:
            raise UploadTooLarge(limits.max_upload_mb)
        return
    for file in job.files:
        _check_url(file.url or "", fetch)


def _check_url(url: str, fetch: Fetch) -> None:
    if is_bucket_url(url):
        check_bucket_url(url, fetch.buckets)
    elif not fetch.enabled:
        raise UrlRefused("URLs are not fetched here: the setting fetch.enabled is off.")
    else:
        target = parsed(url)
        fetch.allowed.check_port(target.host, target.port)
