"""Every setting, with its unit, default and bounds. Unknown keys are refused.

The same model is the `args:` of serve_config.yaml and the argument of `app.build`. Nothing else
reads settings; secrets alone come from the environment, by name.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, model_validator

HALF = ("fp16", "bf16")
RESERVED = ("vad", "punctuation")

Dtype: TypeAlias = Literal["auto", "fp32", "fp16", "bf16", "int8"]
Fraction = Annotated[float, Field(ge=0, le=8, description="GPUs of one replica; 0.25 = a quarter")]


class Settings(BaseModel):
    """A section of the configuration: unknown keys are an error, nothing changes after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Models(Settings):
    """Which models are served: a catalogue id (`python -m deployments.weights list`) or a path."""

    vad: str = "fsmn-vad"
    asr: str = Field("paraformer-zh", description="an id, a directory, or 'auto' (demo only)")
    punctuation: str | None = Field("ct-punc-zh", description="None: no punctuation stage")
    cache_dir: Path | None = Field(None, description="None: PARAFORMER_CACHE_DIR or ~/.cache")
    offline: bool = Field(False, description="True: never ask a hub or a registry")


class Replicas(Settings):
    """How many replicas a deployment has and what each of them needs."""

    num_cpus: float = Field(1.0, gt=0)
    num_gpus: Fraction = 0.0
    num_threads: int = Field(1, ge=1, description="threads of one model call on the CPU")
    min_replicas: int = Field(1, ge=0)
    max_replicas: int = Field(1, ge=1)
    target_ongoing_requests: float = Field(1.5, gt=0, description="Serve adds replicas above this")
    max_ongoing_requests: int = Field(8, ge=1, description="calls one replica accepts at once")
    max_queued_requests: int = Field(-1, ge=-1, description="calls that wait; more get a 503")
    memory_mib: int | None = Field(None, ge=1, description="RAM reserved per replica")

    @model_validator(mode="after")
    def _range(self) -> Replicas:
        if self.min_replicas > self.max_replicas:
            raise ValueError(f"min_replicas {self.min_replicas} > max_replicas {self.max_replicas}")
        return self


class Pool(Replicas):
    """ASR replicas of one GPU type, or of CPUs. The name of the pool is its key in `pools`."""

    accelerator_type: str | None = Field(None, description="Ray's name, such as 'T4' or 'L4'")
    node_labels: dict[str, str] = Field({}, description="Ray node labels the replicas need")
    batch_audio_s: float = Field(30.0, gt=0, description="cap on a batch's padded audio seconds")
    speed: float = Field(10.0, gt=0, description="audio seconds per second and replica, expected")
    overhead_ms: float = Field(20.0, ge=0, description="cost of a chunk of any size, expected")
    start_s: float = Field(30.0, gt=0, description="how long the first replica takes to start")
    price_per_hour: float | None = Field(
        None, gt=0, description="of one replica, any currency; None: by its accelerator type"
    )


class Stage(Replicas):
    """The VAD or the punctuation deployment; its defaults hold where a file says only a part."""

    min_replicas: int = Field(1, ge=1)
    timeout_s: float = Field(600.0, gt=0, description="limit of one call")


class VadStage(Stage):
    """The VAD deployment."""

    num_cpus: float = Field(0.2, gt=0)
    max_ongoing_requests: int = Field(4, ge=1)


class PunctuationStage(Stage):
    """The punctuation deployment."""

    num_cpus: float = Field(0.2, gt=0)
    max_ongoing_requests: int = Field(16, ge=1)
    target_ongoing_requests: float = Field(8.0, gt=0)
    mode: Literal["exact", "windowed"] = Field(
        "exact",
        description="exact: FunASR's text; windowed: about twice as fast, a few marks differ",
    )


class RouterSettings(Replicas):
    """The stateless routers: decoding, fan-out, merging."""

    num_cpus: float = Field(0.2, gt=0)
    min_replicas: int = Field(1, ge=1)
    max_ongoing_requests: int = Field(64, ge=1)
    max_queued_requests: int = Field(64, ge=-1)
    target_ongoing_requests: float = Field(16.0, gt=0)
    decode_threads: int = Field(2, ge=1, description="recordings decoded at once per replica")
    decode_timeout_s: float = Field(300.0, gt=0)
    chunk_timeout_s: float = Field(600.0, gt=0, description="limit of one chunk on a replica")


class DispatcherSettings(Settings):
    """The one scheduler."""

    num_cpus: float = Field(0.1, gt=0)
    max_queue_s: float = Field(600.0, gt=0, description="promised wait; above it requests get 503")
    poll_s: float = Field(2.0, gt=0, description="how often running replicas are counted")


class AutoscalingSettings(Settings):
    """One policy over all pools; each pool states its own range of replicas."""

    drain_s: float = Field(120.0, gt=0, description="what waits is to be done within this time")
    give_back_after_s: float = Field(
        600.0, gt=0, description="a replica that was not needed for so long is given back"
    )

    @model_validator(mode="after")
    def _window(self) -> AutoscalingSettings:
        if self.give_back_after_s < self.drain_s:
            raise ValueError(
                f"give_back_after_s {self.give_back_after_s} < drain_s {self.drain_s}: replicas "
                "would be given back while what they were started for still waits"
            )
        return self


class Limits(Settings):
    """What a client may send."""

    max_upload_mb: float = Field(2048.0, gt=0)
    max_audio_hours: float = Field(12.0, gt=0)
    request_timeout_s: float = Field(3600.0, gt=0)
    max_prompt_chars: int = Field(1000, ge=0)
    max_hotwords: int = Field(200, ge=0)


class IngressSettings(Replicas):
    """The HTTP front, one replica or more behind Serve's proxies."""

    num_cpus: float = Field(0.2, gt=0)
    min_replicas: int = Field(1, ge=1)
    max_ongoing_requests: int = Field(256, ge=1)
    max_queued_requests: int = Field(256, ge=-1)
    target_ongoing_requests: float = Field(64.0, gt=0)


class AppConfig(Settings):
    """The whole application."""

    models: Models = Models()
    dtype: Dtype = Field("auto", description="auto: fp16 on GPUs with Tensor Cores, fp32 on CPU")
    pools: Literal["auto"] | dict[str, Pool] = "auto"
    vad: VadStage = VadStage()
    punctuation: PunctuationStage = PunctuationStage()
    router: RouterSettings = RouterSettings()
    dispatcher: DispatcherSettings = DispatcherSettings()
    autoscaling: AutoscalingSettings = AutoscalingSettings()
    ingress: IngressSettings = IngressSettings()
    limits: Limits = Limits()
    notes: tuple[str, ...] = Field((), description="shown by /v1/models to whoever asks")

    @model_validator(mode="after")
    def _pools(self) -> AppConfig:
        if self.pools != "auto":
            if not self.pools:
                raise ValueError("pools: name at least one, or say 'auto'")
            for name in self.pools:
                if name in RESERVED:
                    raise ValueError(f"pools: {name!r} is the name of a stage")
                if not name.replace("-", "").replace("_", "").isalnum():
                    raise ValueError(f"pools: {name!r} may hold letters, digits, '-' and '_' only")
            on_cpu = [name for name, pool in self.pools.items() if not pool.num_gpus]
            if self.dtype in HALF and on_cpu:
                raise ValueError(f"dtype {self.dtype}: pool {on_cpu[0]!r} runs on CPUs, in fp32")
            on_gpu = [name for name, pool in self.pools.items() if pool.num_gpus]
            if self.dtype == "int8" and on_gpu:
                raise ValueError(f"dtype int8 runs on CPUs: pool {on_gpu[0]!r} declares a GPU")
        return self
