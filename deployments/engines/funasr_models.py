"""Imports from FunASR only the module of the model that is wanted.

`import funasr` imports all of its models: 3 to 5 s and 120 MiB in every process (measured). The
four classes that are used here need a quarter of both. A process that also wants FunASR's own
`AutoModel` calls `import_all` first.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import pkgutil
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

# The module that registers each class in FunASR's tables.
MODULES = {
    "SeacoParaformer": "funasr.models.seaco_paraformer.model",
    "BiCifParaformer": "funasr.models.bicif_paraformer.model",
    "FsmnVADStreaming": "funasr.models.fsmn_vad_streaming.model",
    "CTTransformer": "funasr.models.ct_transformer.model",
    "SANMEncoder": "funasr.models.sanm.encoder",
    "FSMN": "funasr.models.fsmn_vad_streaming.encoder",
    "ParaformerSANMDecoder": "funasr.models.paraformer.decoder",
    "CifPredictorV3": "funasr.models.bicif_paraformer.cif_predictor",
    "SpecAugLFR": "funasr.models.specaug.specaug",
}
# The keys of a config.yaml that name the class of a part of the network.
PARTS = ("encoder", "decoder", "seaco_decoder", "predictor", "specaug", "normalize")


@contextlib.contextmanager
def quiet_import() -> Iterator[None]:
    """Silences FunASR, which prints a line about each optional package that is missing.

    A warning that is turned into an error looks to it like a missing package.
    """
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def import_package() -> None:
    """Imports `funasr` without its models. Does nothing if it was imported before."""
    walk = pkgutil.walk_packages
    # FunASR finds its models by this function, as its `__init__` runs.
    pkgutil.walk_packages = lambda *_, **__: iter(())
    try:
        with quiet_import():
            importlib.import_module("funasr")
    finally:
        pkgutil.walk_packages = walk


def import_all() -> None:
    """Imports all models, front ends and tokenizers of FunASR, as `import funasr` does."""
    import_package()
    with quiet_import():
        importlib.import_module("funasr").import_submodules("funasr")


def model_class(config: Mapping[str, Any]) -> Any:
    """FunASR's class of the model that a config.yaml describes, with its parts registered.

    A part that is not in MODULES costs the import of all models.
    """
    names = [config["model"], *(config[part] for part in PARTS if config.get(part))]
    if not MODULES.keys() >= set(names):
        import_all()
    import_package()
    with quiet_import():
        for name in names:
            if name in MODULES:
                importlib.import_module(MODULES[name])
        tables = importlib.import_module("funasr.register").tables
    return tables.model_classes[config["model"]]
