"""The field `webhook` of a job: where it may lead, and the log of its deliveries."""

from __future__ import annotations

import httpx
import pytest

from tests.api.jobs.played import Played

JOBS = "/v1/transcription-jobs"
HOOK = "https://example.com/hook"


def submit(played: Played, webhook: str) -> httpx.Response:
    body = {"url": ["https://example.com/a.mp3"], "webhook": webhook}
    return httpx.post(played.url + JOBS, json=body)


@pytest.mark.parametrize(
    "webhook", ["http://redis.corp:6379/", "ftp://example.com/", "hook", "http://[::1%25eth0]/"]
)
def test_a_place_where_no_webhook_goes_is_refused_at_once(played: Played, webhook: str) -> None:
    answer = submit(played, webhook)

    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "url_refused"
    assert answer.json()["error"]["param"] == "webhook"


def test_a_named_host_may_have_any_port(played: Played) -> None:
    host = played.fetch.allow_hosts[0]

    assert submit(played, f"http://{host}/hook").status_code == 202


def test_the_deliveries_of_a_job_are_listed_and_replayed(played: Played) -> None:
    job = submit(played, HOOK).json()["id"]
    httpx.post(f"{played.url}{JOBS}/{job}/cancel")
    path = f"{played.url}{JOBS}/{job}/deliveries"

    (delivery,) = httpx.get(path).json()["data"]
    replayed = httpx.post(f"{path}/{delivery['id']}/replay")
    unknown = httpx.post(f"{path}/msg_none/replay")

    assert (delivery["url"], delivery["state"]) == (HOOK, "waiting")
    assert (replayed.status_code, replayed.json()["id"]) == (202, delivery["id"])
    assert unknown.status_code == 404
