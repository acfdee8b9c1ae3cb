"""OpenAI's own client with a key of the service: its answers and its errors."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import openai
import pytest

from tests.api.doors.house import HERE, house, some_key

KEY = some_key("tom")[1]
OTHER_KEY = some_key("ann")[1]


async def transcribed(folder: Path, line: str, key: str, *, times: int = 1) -> list[str]:
    async with house(folder, line) as one:
        transport = httpx.ASGITransport(one.app)
        client = openai.AsyncOpenAI(
            base_url=f"{HERE}/v1",
            api_key=key,
            http_client=httpx.AsyncClient(transport=transport),
        )
        async with client:
            texts = []
            for _ in range(times):
                answer = await client.audio.transcriptions.create(
                    model="whisper-1", file=("a.wav", b"0123456789")
                )
                texts.append(answer.text)
            return texts


def test_a_key_of_the_service_is_openai_s_api_key(tmp_path: Path) -> None:
    assert asyncio.run(transcribed(tmp_path, KEY, KEY))[0].startswith("今天天气很好")


@pytest.mark.parametrize(
    ("options", "key", "times", "error"),
    [
        ("", OTHER_KEY, 1, openai.AuthenticationError),
        ("scopes=jobs", KEY, 1, openai.PermissionDeniedError),
        ("audio_s_per_day=1", KEY, 2, openai.RateLimitError),
    ],
)
def test_its_errors_are_those_of_openai(
    tmp_path: Path, options: str, key: str, times: int, error: type[openai.APIStatusError]
) -> None:
    with pytest.raises(error) as caught:
        asyncio.run(transcribed(tmp_path, f"{KEY} {options}", key, times=times))

    assert caught.value.code in ("invalid_api_key", "permission_denied", "rate_limit_exceeded")
    assert KEY[-43:] not in str(caught.value)
    assert OTHER_KEY[-43:] not in str(caught.value)
