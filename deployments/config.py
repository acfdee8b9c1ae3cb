"""Every setting, with its unit, default, bounds and description. Unknown keys are refused.

The same model is the `args:` of serve_config.yaml and the argument of `app.build`. The tables of
settings in the documents are made from it. Only the places of the cache and of the model hubs can
be set in the environment too; `deployments/weights/settings.py` reads them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import ConfigDict, Field, model_validator

from deployments.service_settings import Fetch, JobsSettings, KeysSettings, Storage
from deployments.settings import (
    Cores,
    MaxOngoing,
    MaxQueued,
    MinReplicas,
    Replicas,
    Settings,
    Target,
)

HALF = ("fp16", "bf16")
RESERVED = ("vad", "punctuation")
# What programs have built in. Not `-diarize`, which asks for speakers: nothing here finds them.
OPENAI_MODELS = ("whisper-1", "gpt-*transcribe", "gpt-*transcribe-20??-??-??")

Dtype: TypeAlias = Literal["auto", "fp32", "fp16", "bf16", "int8"]


class Models(Settings):
    """Which models are served: a catalogue id (`python -m deployments.weights list`) or a path."""

    vad: str = "fsmn-vad"
    """The model that finds speech: an id or a directory."""

    asr: str = "paraformer-zh"
    """The model that recognises speech: an id, a directory, or `auto` (for the demo only)."""

    punctuation: str | None = "ct-punc-zh"
    """The model that punctuates: an id or a directory. With null the text has no marks."""

    aliases: tuple[str, ...] = OPENAI_MODELS
    """Other names by which requests may call the ASR model. `*` stands for any characters."""

    cache_dir: Path | None = None
    """Where weights are stored. Null: `PARAFORMER_CACHE_DIR`, else ~/.cache/paraformer-cluster."""

    offline: bool = False
    """With true no model hub and no package registry is ever asked."""


class Pool(Replicas):
    """ASR replicas of one GPU type, or of CPUs. The name of the pool is its key in `pools`."""

    accelerator_type: str | None = None
    """Ray's name of the GPU type, such as T4 or L4. With null any GPU will do."""

    node_labels: dict[str, str] = Field({})
    """Ray labels that a node must have to run this pool's replicas."""

    batch_audio_s: float = Field(30.0, gt=0)
    """Seconds of audio, padding included, at which a batch is full."""

    speed: float = Field(10.0, gt=0)
    """Seconds of audio that one replica is expected to recognise in a second, until measured."""

    overhead_ms: float = Field(20.0, ge=0)
    """Milliseconds that a chunk of any size is expected to cost, until measured."""

    start_s: float = Field(30.0, gt=0)
    """Seconds that a replica is expected to need to start."""

    price_per_hour: float | None = Field(None, gt=0)
    """Price of one replica for an hour, in any currency. With null it follows from the GPU type."""


class Stage(Replicas):
    """The VAD or the punctuation deployment; its defaults hold where a file says only a part."""

    min_replicas: Annotated[MinReplicas, Field(ge=1)] = 1

    timeout_s: float = Field(600.0, gt=0)
    """Timeout of one call, in seconds. A request that meets it gets a 504."""


class VadStage(Stage):
    """The VAD deployment."""

    num_cpus: Cores = 0.2
    max_ongoing_requests: MaxOngoing = 4


class PunctuationStage(Stage):
    """The punctuation deployment."""

    num_cpus: Cores = 0.2
    max_ongoing_requests: MaxOngoing = 16
    target_ongoing_requests: Target = 8.0

    mode: Literal["exact", "windowed"] = "exact"
    """`exact` writes FunASR's text. `windowed` is about twice as fast; a few marks differ."""


class RouterSettings(Replicas):
    """The stateless routers: decoding, fan-out, merging."""

    num_cpus: Cores = 0.2
    min_replicas: Annotated[MinReplicas, Field(ge=1)] = 1
    max_ongoing_requests: MaxOngoing = 64
    max_queued_requests: MaxQueued = 64
    target_ongoing_requests: Target = 16.0

    decode_threads: int = Field(2, ge=1)
    """Recordings that one replica decodes at the same time; more wait."""

    decode_timeout_s: float = Field(300.0, gt=0)
    """Timeout of decoding one recording, in seconds. A request that meets it gets a 504."""

    max_held_audio_hours: float = Field(24.0, gt=0)
    """Audio that one replica holds in memory, in hours of 115 MB. A request beyond gets a 503."""

    chunk_timeout_s: float = Field(600.0, gt=0)
    """Timeout of one chunk on a replica, in seconds."""


class DispatcherSettings(Settings):
    """The one scheduler."""

    num_cpus: Cores = 0.1

    max_queue_s: float = Field(600.0, gt=0)
    """Longest expected wait, in seconds. A request that would wait longer gets a 503 at once."""

    max_interactive_queue_s: float = Field(120.0, gt=0)
    """The same for requests with less than a minute of audio, which go before all others."""

    poll_s: float = Field(2.0, gt=0)
    """Seconds between two counts of the running replicas."""


class AutoscalingSettings(Settings):
    """One policy over all pools; each pool states its own range of replicas."""

    drain_s: float = Field(120.0, gt=0)
    """Seconds in which the backlog is to be done. Where that is not met, replicas are added."""

    give_back_after_s: float = Field(600.0, gt=0)
    """Seconds after which a replica that was not needed is given back; at least `drain_s`."""

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
    """Largest upload, in MB of 1,000,000 bytes. A larger one gets a 413."""

    max_audio_hours: float = Field(12.0, gt=0)
    """Longest recording, in hours. A longer one gets a 413."""

    request_timeout_s: float = Field(3600.0, gt=0)
    """Seconds for the upload, and again for the answer. A request that meets it gets a 504."""

    drain_timeout_s: float = Field(600.0, ge=0)
    """Seconds that requests under way may still take once the service or a replica is stopped."""

    max_prompt_chars: int = Field(1000, ge=0)
    """Longest prompt that a model gets, in characters. Of a longer one the end is used."""

    max_hotwords: int = Field(200, ge=0)
    """Most hotwords in one request. A request with more gets a 400."""

    strict_fields: bool = False
    """With true an unknown field gets a 400; else the `warnings` header of the answer names it."""


class IngressSettings(Replicas):
    """The HTTP front, one replica or more behind Serve's proxies."""

    num_cpus: Cores = 0.2
    min_replicas: Annotated[MinReplicas, Field(ge=1)] = 1
    max_ongoing_requests: MaxOngoing = 256
    max_queued_requests: MaxQueued = 256
    target_ongoing_requests: Target = 64.0

    cors_origins: tuple[str, ...] = ()
    """Web origins whose pages may call the service, such as `app://obsidian.md`; `*`: any."""


class AppConfig(Settings):
    """The whole application."""

    model_config = ConfigDict(hide_input_in_errors=True)  # a URL may hold a password

    models: Models = Models()
    """Which models are served."""

    dtype: Dtype = "auto"
    """Number format of ASR. `auto` is fp16 where every GPU has Tensor Cores, and fp32 elsewhere."""

    pools: Literal["auto"] | dict[str, Pool] = "auto"
    """ASR replicas by pool. `auto` makes one pool for each GPU type, or one on CPUs."""

    vad: VadStage = VadStage()
    """The deployment that finds speech."""

    punctuation: PunctuationStage = PunctuationStage()
    """The deployment that punctuates."""

    router: RouterSettings = RouterSettings()
    """The deployment that decodes, fans out and merges."""

    dispatcher: DispatcherSettings = DispatcherSettings()
    """The scheduler."""

    autoscaling: AutoscalingSettings = AutoscalingSettings()
    """How many replicas the pools have."""

    ingress: IngressSettings = IngressSettings()
    """The HTTP front."""

    limits: Limits = Limits()
    """What a client may send."""

    fetch: Fetch = Fetch()
    """Recordings from URLs."""

    storage: Storage = Storage()
    """Where jobs and keys are kept."""

    keys: KeysSettings = KeysSettings()
    """Who may use the service."""

    jobs: JobsSettings = JobsSettings()
    """The deployment that works at transcription jobs."""

    notes: tuple[str, ...] = ()
    """Sentences for users, which /v1/models shows."""

    @model_validator(mode="after")
    def _memory(self) -> AppConfig:
        held, longest = self.router.max_held_audio_hours, self.limits.max_audio_hours
        if held < longest:
            raise ValueError(
                f"router.max_held_audio_hours {held:g} < limits.max_audio_hours {longest:g}: the "
                "longest recording would never be accepted"
            )
        return self

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
