"""Builds the whole graph of deployments: `build(config) -> Application`.

Ingress -> Router -> Vad, Punctuation, Asr-<pool> ..., with one Dispatcher beside them.
"""

# No `from __future__ import annotations` here: Serve turns the `args:` of a configuration file into
# the type of `build`'s argument, and would see a string instead of the type.

import warnings
from typing import Any

from ray import serve
from ray.serve.config import AutoscalingConfig, RequestRouterConfig

from cluster.gpu_metrics import keep_sampling
from cluster.profiles import replica_price
from deployments.api.failures import BUSY_RETRY_S
from deployments.api.ingress import Ingress
from deployments.config import AppConfig, Pool, PunctuationStage, Stage
from deployments.core.batching import worthwhile_slack_ms
from deployments.core.scheduler.planning import PoolSpec
from deployments.dispatcher import Dispatcher
from deployments.engines.families import asr_info
from deployments.engines.protocols import EngineSettings
from deployments.jobs.deployment import Jobs
from deployments.keys.deployment import Keys
from deployments.keys.listening import listening_host
from deployments.keys.required import check_host, needs_keys
from deployments.request.plan import RouterPlan
from deployments.request.router import Router
from deployments.resolve import cluster_nodes, family_of, resolve
from deployments.settings import Replicas
from deployments.stages.asr import Asr, Tuning
from deployments.stages.punctuation import Punctuation
from deployments.stages.vad import Vad
from deployments.storage import check_placement, database_url, in_data_dir
from deployments.weights.identify import identify

BY_NAME: dict[str, Any] = {"request_router_class": "deployments.request.named:NamedReplica"}
REPORT_S = 2.0  # how often the dispatcher's figures reach the policy
SHUTDOWN_LOOP_S = 0.5  # how often a replica that is stopped looks whether its calls have ended
KEYS_CPUS = 0.1
AT_ONCE = {"upscale_delay_s": 0.0, "downscale_delay_s": 0.0}


def build(config: AppConfig) -> serve.Application:
    """The application for this configuration and the cluster as it is now.

    Raises ModelUnavailable if the id of a model is unknown or a pool cannot run the model, and
    ValueError if everybody could use the service, or each node would have a database of its own.
    """
    if host := listening_host():
        check_host(config.keys, host)
    config, notes = resolve(config, cluster_nodes())
    assert config.pools != "auto"
    asr = config.models.asr
    family = identify(asr).family
    infos = {name: asr_info(family, how) for name, how in _pool_settings(config).items()}
    info = next(iter(infos.values()))
    plan = RouterPlan(
        engine=info,
        languages=family_of(asr).languages,
        aliases=config.models.aliases,
        punctuate=_punctuates(config),
        pools=infos,
        notes=notes,
        max_audio_s=config.limits.max_audio_hours * 3600,
        max_held_audio_s=config.router.max_held_audio_hours * 3600,
        max_prompt_chars=config.limits.max_prompt_chars,
        max_hotwords=config.limits.max_hotwords,
        decode_threads=config.router.decode_threads,
        decode_timeout_s=config.router.decode_timeout_s,
        request_timeout_s=config.limits.request_timeout_s,
    )
    drain_s = config.limits.drain_timeout_s
    behind = stages(config)
    router = _deployment(Router, "Router", config.router, drain_s).bind(plan, behind)
    keys = _keys(config)
    jobs = _jobs(config, plan, behind, keys) if config.jobs.enabled else None
    ingress = _deployment(Ingress, "Ingress", config.ingress, drain_s, labels=_at_files(config))
    return ingress.bind(
        router,
        info,
        config.limits,
        config.ingress.cors_origins,
        config.fetch,
        jobs,
        config.jobs,
        config.storage,
        keys,
        config.keys.session_hours,
    )


def _jobs(
    config: AppConfig, plan: RouterPlan, behind: dict[str, Any], keys: serve.Application | None
) -> serve.Application:
    """The deployment of jobs. Raises ValueError where its storage does not fit the cluster."""
    check_placement(config.storage, n_nodes=max(1, len(cluster_nodes())))
    models = config.models.model_dump(mode="json", include={"vad", "asr", "punctuation"})
    kind = _deployment(
        Jobs, "Jobs", config.jobs, config.limits.drain_timeout_s, labels=_at_files(config)
    )
    arguments = (config.jobs, config.storage, config.fetch, config.limits, models)
    return kind.bind(plan, behind, *arguments, keys)


def _at_files(config: AppConfig) -> dict[str, str]:
    """The labels of the node that has the folder of data; none where jobs need no folder."""
    return dict(config.storage.node_labels) if config.jobs.enabled else {}


def _keys(config: AppConfig) -> serve.Application | None:
    """The deployment that counts for all ingresses. None where nobody needs a key."""
    if not needs_keys(config.keys):
        return None
    actor: dict[str, Any] = {"num_cpus": KEYS_CPUS}
    if config.keys.database:
        check_placement(config.storage, n_nodes=len(cluster_nodes()))
        if config.storage.node_labels and in_data_dir(database_url(config.storage)):
            actor["label_selector"] = dict(config.storage.node_labels)
    deploy = serve.deployment(
        name="Keys",
        num_replicas=1,
        max_ongoing_requests=10_000,  # all that it counts, it counts in memory
        graceful_shutdown_timeout_s=2,  # what was used until now is written by then
        ray_actor_options=actor,
    )
    return deploy(Keys).bind(config.keys, config.storage)


def stages(config: AppConfig) -> dict[str, Any]:
    """All deployments behind the router, bound: the arguments of its `HandleCalls`.

    `config` must be resolved: it holds no "auto".
    """
    assert config.pools != "auto"
    punctuate, settings = _punctuates(config), _pool_settings(config)
    drain_s = config.limits.drain_timeout_s
    vad = _deployment(Vad, "Vad", config.vad, drain_s).bind(
        config.models, engine_settings(config.models.vad, config.vad, config)
    )
    pools = {
        name: _deployment(
            Asr,
            f"Asr-{name}",
            pool,
            drain_s,
            user_config=_tuning(pool),
            request_router_config=RequestRouterConfig(**BY_NAME),
        ).bind(name, config.models, settings[name])
        for name, pool in config.pools.items()
    }
    punctuation = None
    if punctuate:
        how = engine_settings(str(config.models.punctuation), config.punctuation, config)
        punctuation = _deployment(Punctuation, "Punctuation", config.punctuation, drain_s).bind(
            config.models, how
        )
    names = {"vad": "Vad"} | ({"punctuation": "Punctuation"} if punctuate else {})
    scheduler = serve.deployment(
        name="Dispatcher",
        max_ongoing_requests=10_000,  # every open request waits here for its orders
        graceful_shutdown_timeout_s=0,  # they ask the next dispatcher, with all that it must know
        ray_actor_options={"num_cpus": config.dispatcher.num_cpus},
        autoscaling_config=_one_that_reports(),
    )
    dispatcher = scheduler(Dispatcher).bind(
        [_pool_spec(name, pool) for name, pool in config.pools.items()],
        config.dispatcher,
        names | {name: f"Asr-{name}" for name in config.pools},
        config.autoscaling,
        keep_sampling,
    )
    return {
        "vad": vad,
        "pools": pools,
        "punctuation": punctuation,
        "dispatcher": dispatcher,
        "stage_timeout_s": {
            "VAD": config.vad.timeout_s,
            "punctuation": config.punctuation.timeout_s,
            "recognition": config.router.chunk_timeout_s,
        },
    }


def _tuning(pool: Pool) -> Tuning:
    slack_ms = worthwhile_slack_ms(pool.overhead_ms, pool.speed)
    return {"batch_audio_s": pool.batch_audio_s, "slack_audio_s": slack_ms / 1000}


def _pool_settings(config: AppConfig) -> dict[str, EngineSettings]:
    """How the engine of each pool runs."""
    assert config.pools != "auto"
    return {
        name: engine_settings(config.models.asr, pool, config)
        for name, pool in config.pools.items()
    }


def _punctuates(config: AppConfig) -> bool:
    """Whether there is a punctuation stage. An ASR engine that writes marks itself needs none."""
    models = config.models
    return models.punctuation is not None and not family_of(models.asr).punctuates


def _deployment(
    kind: type,
    name: str,
    replicas: Replicas,
    drain_s: float,
    *,
    labels: dict[str, str] | None = None,
    **options: Any,
) -> serve.Deployment:
    """The deployment, with the resources of each replica and the range of replicas.

    Pools follow cluster/autoscaling.py. That policy remembers the load itself, so Serve adds no
    delay. The other stages follow Serve's default policy. A replica that is stopped finishes the
    calls that it has, for `drain_s` at most.
    """
    actor: dict[str, Any] = {"num_cpus": replicas.num_cpus, "num_gpus": replicas.num_gpus}
    if replicas.memory_mib is not None:
        actor["memory"] = replicas.memory_mib * 1024 * 1024
    if isinstance(replicas, Pool) and replicas.accelerator_type is not None:
        actor["accelerator_type"] = replicas.accelerator_type
    if isinstance(replicas, Pool):
        labels = dict(replicas.node_labels)
    if labels:
        actor["label_selector"] = labels
    deploy = serve.deployment(
        name=name,
        ray_actor_options=actor,
        max_ongoing_requests=replicas.max_ongoing_requests,
        max_queued_requests=replicas.max_queued_requests,
        graceful_shutdown_timeout_s=drain_s,
        graceful_shutdown_wait_loop_s=SHUTDOWN_LOOP_S,
        backpressure_config={"retry_after_s": BUSY_RETRY_S},  # of Serve's own answers
        autoscaling_config={
            "min_replicas": replicas.min_replicas,
            "max_replicas": replicas.max_replicas,
            "target_ongoing_requests": replicas.target_ongoing_requests,
        }
        | (AT_ONCE if isinstance(replicas, Pool) else {}),
        **options,
    )
    return deploy(kind)


def _one_that_reports() -> AutoscalingConfig:
    """One replica, yet with autoscaling, because only then does Serve collect its figures."""
    with warnings.catch_warnings():
        # Deprecated for an environment variable, which the replicas of Ray 2.60 do not read.
        warnings.simplefilter("ignore", DeprecationWarning)
        return AutoscalingConfig(min_replicas=1, max_replicas=1, metrics_interval_s=REPORT_S)


def engine_settings(ref: str, replicas: Stage | Pool, config: AppConfig) -> EngineSettings:
    """How the engine of a stage runs. `dtype` is for the pools; the other stages run in fp32."""
    on_gpu = replicas.num_gpus > 0
    dtype: str = family_of(ref).cpu_dtype
    if isinstance(replicas, Pool) and (on_gpu or config.dtype == "int8"):
        dtype = config.dtype
    return EngineSettings(
        name=identify(ref).name,
        device="cuda" if on_gpu else "cpu",
        dtype=dtype,
        num_threads=replicas.num_threads,
        memory_fraction=replicas.num_gpus if 0 < replicas.num_gpus < 1 else None,
        punctuation=replicas.mode if isinstance(replicas, PunctuationStage) else "exact",
    )


def _pool_spec(name: str, pool: Pool) -> PoolSpec:
    return PoolSpec(
        name=name,
        batch_audio_ms=round(pool.batch_audio_s * 1000),
        speed=pool.speed,
        overhead_ms=pool.overhead_ms,
        max_ongoing=pool.max_ongoing_requests,
        start_ms=pool.start_s * 1000,
        can_start=pool.min_replicas == 0,
        price_per_hour=pool.price_per_hour
        or replica_price(pool.accelerator_type, num_gpus=pool.num_gpus, num_cpus=pool.num_cpus),
    )
