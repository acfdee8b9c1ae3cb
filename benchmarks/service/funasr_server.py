"""FunASR's own `funasr-server`, unmodified, as a subprocess on loopback: the baseline.

The server takes its models from `iic/<id>` under its working directory if they are there, so this
module places the weights there. The server asks torch for 4 threads unless the ASR model's
config.yaml has `ncpu`. That line is the only change to the model's files.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

# The ids behind "paraformer-zh", "fsmn-vad" and "ct-punc" (funasr/download/name_maps_from_hub.py).
ASR = "iic/speech_seaco_paraformer_large_asr_nat-zh-cn-16k-common-vocab8404-pytorch"
VAD = "iic/speech_fsmn_vad_zh-cn-16k-common-pytorch"
PUNCTUATION = "iic/punc_ct-transformer_cn-en-common-vocab471067-large"
START_TIMEOUT_S = 300.0
STOP_TIMEOUT_S = 20.0
REQUEST_TIMEOUT_S = 3600.0


@contextmanager
def funasr_server(
    root: Path, *, vad: Path, asr: Path, punctuation: Path, num_threads: int, port: int
) -> Iterator[str]:
    """Runs the server; yields its URL once its models are loaded.

    Raises RuntimeError with the end of the server's log where it does not start.
    """
    lay_out(root, vad=vad, asr=asr, punctuation=punctuation, num_threads=num_threads)
    command = [sys.executable, "-m", "funasr.bin.server", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--device", "cpu", "--model", "paraformer"]
    log = root / "funasr-server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=root, stdout=output, stderr=subprocess.STDOUT)
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_until_ready(process, url, log)
        yield url
    finally:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def lay_out(root: Path, *, vad: Path, asr: Path, punctuation: Path, num_threads: int) -> None:
    """Makes `iic/<id>` for each model, with links to its files, and adds `ncpu` for the ASR."""
    for model_id, model_dir in ((ASR, asr), (VAD, vad), (PUNCTUATION, punctuation)):
        place = root / model_id
        place.mkdir(parents=True)
        for file in model_dir.iterdir():
            (place / file.name).symlink_to(file.resolve())
    config = root / ASR / "config.yaml"
    text = config.read_text("utf-8")
    config.unlink()
    config.write_text(f"{text.rstrip()}\nncpu: {num_threads}\n", "utf-8")


def transcribe(url: str, wav: bytes) -> str:
    """The text of a recording. Raises httpx.HTTPError."""
    response = httpx.post(
        f"{url}/v1/audio/transcriptions",
        data={"model": "paraformer"},
        files={"file": ("audio.wav", wav)},
        timeout=REQUEST_TIMEOUT_S,
    )
    response.raise_for_status()
    text: str = response.json()["text"]
    return text


def _wait_until_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    give_up_s = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < give_up_s and process.poll() is None:
        try:
            if httpx.get(f"{url}/health", timeout=5.0).is_success:
                return
        except httpx.TransportError:
            time.sleep(0.5)
    tail = log.read_text("utf-8", errors="replace")[-2000:]
    raise RuntimeError(f"funasr-server did not start:\n{tail}")
