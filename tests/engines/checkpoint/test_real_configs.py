"""The published checkpoints' own small files: their hashes, and the networks they describe."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch

from benchmarks.material.recordings import EXTRA
from deployments.engines.checkpoint import build, check_frontend, read_config, read_tokens
from deployments.engines.features import N_MELS, read_cmvn
from deployments.weights.catalog import CATALOG

REAL = EXTRA / "data" / "real_configs"
NAMES = {
    "seaco": "paraformer-zh",
    "ct_punc_zh": "ct-punc-zh",
    "ct_punc_cn_en_large": "ct-punc",
    "fsmn_vad": "fsmn-vad",
}
FOLDERS = pytest.mark.parametrize("folder", list(NAMES))
pytestmark = pytest.mark.skipif(not REAL.is_dir(), reason=f"{REAL} is missing")


def small_files(folder: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((REAL / folder).iterdir())}


@FOLDERS
def test_the_published_files_are_those_that_the_catalogue_pins(folder: str) -> None:
    wanted = {file.path: file for file in CATALOG[NAMES[folder]].files}
    found = small_files(folder)

    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in found.items()}
    wrong_hash = [n for n, h in hashes.items() if wanted[n].sha256 and h not in wanted[n].sha256]
    unpinned = [n for n in found if not wanted[n].sha256 and len(found[n]) != wanted[n].n_bytes]

    assert found
    assert wrong_hash == []
    assert unpinned == []


@FOLDERS
def test_the_published_config_describes_a_network_of_the_checkpoints_size(folder: str) -> None:
    model = CATALOG[NAMES[folder]]
    config = read_config(REAL / folder)
    check_frontend(config.get("frontend_conf") or {}, model.name)
    lfr_m = int((config.get("frontend_conf") or {}).get("lfr_m", 1))
    n_tokens = len(read_tokens(config)) or {"ct-punc": 471_067}.get(model.name, 0)

    with torch.device("meta"):
        network = build(config, input_size=lfr_m * N_MELS, vocab_size=n_tokens)

    n_bytes = sum(tensor.numel() * 4 for tensor in network.state_dict().values())
    stored = next(file.n_bytes for file in model.files if file.path == "model.pt")
    assert stored is not None
    assert config["model"] == model.funasr_class
    # Behind each tensor the archive holds its name and padding; older ones an unused table too.
    assert n_bytes <= stored <= n_bytes * 1.01 + 200_000


@pytest.mark.parametrize("folder", ["seaco", "fsmn_vad"])
def test_the_published_normalisation_fits_the_features(folder: str) -> None:
    config = read_config(REAL / folder)
    frontend = config["frontend_conf"]

    cmvn = read_cmvn(Path(frontend["cmvn_file"]))

    assert cmvn.shape == (2, frontend["lfr_m"] * N_MELS)
