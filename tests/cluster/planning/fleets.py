"""Random fleets for tests: any mixture of machines with known or unknown cards, or none."""

from __future__ import annotations

from hypothesis import strategies as st

from cluster.planning.fleet import known_name
from cluster.planning.placement import Node
from cluster.profiles import PROFILES

CARDS = st.sampled_from(
    [known_name(name) for name in PROFILES]
    + ["", "a card of next year", "A100-SXM4-40GB MIG 1g.5gb", "A100-SXM4-80GB MIG 2g.20gb", "vad"]
)
GPU_MACHINES = st.builds(
    Node,
    num_cpus=st.integers(0, 64).map(float),
    num_gpus=st.integers(1, 8).map(float),
    accelerator_type=CARDS,
    memory_mib=st.none() | st.floats(500, 500_000),
    may_be_absent=st.booleans(),
)
CPU_MACHINES = st.builds(Node, num_cpus=st.integers(0, 64).map(float))
FLEETS = st.lists(GPU_MACHINES | CPU_MACHINES, min_size=1, max_size=6)
