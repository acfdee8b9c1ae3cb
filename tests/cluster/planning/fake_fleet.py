"""Plans a fake fleet, and deploys the plan with fake engines.

    python -m tests.cluster.planning.fake_fleet FILE

The fleet is two Ray nodes on this machine, with cards that exist only in Ray's counts. The command
line makes the plan from the running cluster and writes it to FILE. The file is read back and served
with every replica that it allows. Prints one line of JSON. This is a process of its own, so that it
never joins a Ray that runs already.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import ray
from ray import serve
from ray.cluster_utils import Cluster

from benchmarks.material.recordings import wav_bytes
from benchmarks.material.synthetic_audio import voice
from clients.ray_handle import Transcriber
from cluster.gpu_metrics import NAMESPACE, SAMPLER
from cluster.gpus import Reading
from cluster.ray_view import nodes
from deployments.app import build
from deployments.config import AppConfig
from deployments.serve import load_config

FAKES = {"vad": "fake:vad", "asr": "fake:asr", "punctuation": "fake:punctuation"}
MACHINES = [("T4", 2, 5), ("L4", 1, 3)]  # type, cards, CPUs


def main(path: Path) -> dict[str, object]:
    cluster = start()
    try:
        ray.init(address=cluster.address, log_to_driver=False)
        command = [sys.executable, "-m", "cluster.planning.command", "--address", cluster.address]
        subprocess.run([*command, "--output", str(path)], check=True, stdout=subprocess.DEVNULL)
        config = load_config(path)
        serve.start(proxy_location="Disabled")
        serve.run(build(all_at_once(config)), route_prefix=None)
        recording = wav_bytes(voice(20_000, seed=1))
        transcript = Transcriber().transcribe(recording)
        return {
            "dtype": config.dtype,
            "replicas": running_replicas(),
            "samplers": sampled_hosts(),
            "text": transcript.text,
        }
    finally:
        ray.shutdown()
        cluster.shutdown()


def start() -> Cluster:
    cluster = Cluster()
    for kind, n_cards, n_cpus in MACHINES:
        cluster.add_node(
            num_cpus=n_cpus, num_gpus=n_cards, resources={f"accelerator_type:{kind}": 1}
        )
    cluster.wait_for_nodes()
    return cluster


def all_at_once(config: AppConfig) -> AppConfig:
    """The plan with fake models and all replicas that it allows; serve.run waits for them."""
    assert config.pools != "auto"
    pools = {
        name: pool.model_copy(update={"min_replicas": pool.max_replicas})
        for name, pool in config.pools.items()
    }
    stages = {
        name: stage.model_copy(update={"min_replicas": stage.max_replicas})
        for name, stage in (("vad", config.vad), ("punctuation", config.punctuation))
    }
    update = {"models": FAKES, "pools": pools, **stages}
    return AppConfig.model_validate(config.model_copy(update=update).model_dump())


def running_replicas() -> dict[str, int]:
    [application] = serve.status().applications.values()
    return {
        name: sum(deployment.replica_states.values())
        for name, deployment in application.deployments.items()
        if str(deployment.status.value) == "HEALTHY"
    }


def sampled_hosts() -> list[bool]:
    """Whether the application runs a GPU sampler on each node; nodes without GPUs come last."""
    found = []
    for node in sorted(nodes(), key=lambda node: -node.num_gpus):
        try:
            sampler = ray.get_actor(f"{SAMPLER}{node.node_id}", NAMESPACE)
            found.append(isinstance(ray.get(sampler.latest.remote(), timeout=60), Reading))
        except ValueError:
            found.append(False)
    return found


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
