"""The real front behind the real door, with the `Keys` deployment in this process."""

from __future__ import annotations

import asyncio
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
from starlette.applications import Starlette

from deployments.api.doors.door import Door
from deployments.api.ingress import Front, create_app
from deployments.config import Limits
from deployments.keys.deployment import Keys
from deployments.service_settings import KeysSettings, Storage
from tests.clients.fakes import ENGINE, FakeHandle, FakeRouter

PATH = "/v1/audio/transcriptions"
HERE = "http://service"


class LocalHandle:
    """Calls the deployment in this process. Like Serve's, it gives what can be awaited once."""

    def __init__(self, target: Any) -> None:
        self._target = target

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._target, name)
        return type("Method", (), {"remote": staticmethod(_later(method))})


def _later(method: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *arguments: asyncio.ensure_future(method(*arguments))


@dataclass(frozen=True, slots=True)
class House:
    """What a test has in hand."""

    app: Starlette
    keys: Keys
    file: Path

    def client(self, key: str = "", **headers: str) -> httpx.AsyncClient:
        """A client with a key. None is sent by default."""
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        sent = ({"Authorization": f"Bearer {key}"} if key else {}) | headers
        return httpx.AsyncClient(transport=transport, base_url=HERE, headers=sent)

    def write(self, *lines: str) -> None:
        """Changes the file of keys, as its owner would."""
        self.file.write_text("\n".join(lines), encoding="utf-8")
        self.file.chmod(0o600)


@asynccontextmanager
async def house(
    folder: Path, *lines: str, limits: Limits | None = None, **settings: Any
) -> AsyncIterator[House]:
    """A service with these lines in its file of keys."""
    file = folder / "keys"
    file.write_text("\n".join(lines), encoding="utf-8")
    file.chmod(0o600)
    keys = Keys(KeysSettings(file=file, **settings), Storage(data_dir=folder), listen_s=0.0)
    door = Door(LocalHandle(keys))
    front = Front(FakeHandle(FakeRouter()), ENGINE, limits or Limits())
    yield House(create_app(front, (), door), keys, file)
    await keys.close()


def some_key(name: str) -> tuple[str, str]:
    """The id of a key, and the key: the same in every process, for the names of tests."""
    digest = sha256(name.encode())
    id = digest.hexdigest()[:12]
    return id, f"sk-pc-{id}-{urlsafe_b64encode(digest.digest()).decode().rstrip('=')}"


def upload(n_bytes: int = 10) -> dict[str, Any]:
    return {"files": {"file": ("a.wav", bytes(n_bytes))}}
