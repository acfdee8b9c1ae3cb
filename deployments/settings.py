"""The base of every section of the configuration, and the settings that several sections have."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

# Each section that has one of these gives it a default of its own.
Cores = Annotated[
    float, Field(gt=0, description="CPU cores that Ray reserves for each replica, such as 0.2.")
]
MinReplicas = Annotated[int, Field(ge=0, description="Replicas that always run.")]
Target = Annotated[
    float,
    Field(
        gt=0,
        description="Calls for each replica, above which Serve adds replicas. "
        "Pools follow `autoscaling` instead.",
    ),
]
MaxOngoing = Annotated[
    int, Field(ge=1, description="Calls that one replica accepts at the same time; more wait.")
]
MaxQueued = Annotated[
    int,
    Field(
        ge=-1,
        description="Calls that may wait for a replica, -1: any number. Further requests get a "
        "503; further chunks are tried again.",
    ),
]


class Settings(BaseModel):
    """A section: unknown keys are an error, and nothing changes after loading.

    The docstring under a setting is its description, which code reads in `model_fields`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Replicas(Settings):
    """How many replicas a deployment has and what each of them needs."""

    num_cpus: Cores = 1.0

    num_gpus: float = Field(0.0, ge=0, le=8)
    """GPUs of each replica, where 0.25 is a quarter of a GPU. With 0 the replica runs on a CPU."""

    num_threads: int = Field(1, ge=1)
    """Threads of one model call on the CPU."""

    min_replicas: MinReplicas = 1

    max_replicas: int = Field(1, ge=1)
    """The most replicas that autoscaling may start."""

    target_ongoing_requests: Target = 1.5
    max_ongoing_requests: MaxOngoing = 8
    max_queued_requests: MaxQueued = -1

    memory_mib: int | None = Field(None, ge=1)
    """RAM that Ray reserves for each replica, in MiB. With null none is reserved."""

    @model_validator(mode="after")
    def _range(self) -> Replicas:
        if self.min_replicas > self.max_replicas:
            raise ValueError(f"min_replicas {self.min_replicas} > max_replicas {self.max_replicas}")
        return self
