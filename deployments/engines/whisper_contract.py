"""What both Whisper engines promise alike: settings they refuse, languages, prompt, info."""

from __future__ import annotations

from collections.abc import Container

from deployments.core.errors import BadRequest, ModelUnavailable
from deployments.core.types import EngineInfo
from deployments.engines.protocols import EngineSettings

WINDOW_MS = 30_000  # what the model reads at once
MAX_SEGMENT_MS = 25_000  # the rest of the window is silence, by which Whisper finds the end
DEFAULT_LANGUAGE = "zh"

# Whisper writes as its prompt does: simplified characters, with punctuation (without a prompt
# a third of the clips come in traditional characters, and most without a mark).
STYLE_PROMPTS = {"zh": "以下是普通话的句子，请加上标点符号。"}


def whisper_info(settings: EngineSettings, *, dtype: str) -> EngineInfo:
    """What the engine can do; `dtype` is that of its weights, which run as they were released.

    Raises ModelUnavailable for a GPU, and for half precision asked of weights that have another.
    """
    if settings.device != "cpu":
        raise ModelUnavailable(
            settings.name,
            f"Whisper runs on the CPU here, not on {settings.device!r}; name a Paraformer model.",
        )
    if settings.dtype not in ("fp32", "int8", dtype):
        raise ModelUnavailable(
            settings.name, f"its weights are {dtype} and do not run in {settings.dtype!r}."
        )
    return EngineInfo(
        name=settings.name,
        device="cpu",
        dtype=dtype,
        has_word_times=False,
        punctuates=True,
        max_segment_ms=MAX_SEGMENT_MS,
        hints=("language", "prompt"),
    )


def known_language(asked: str | None, known: Container[str]) -> str:
    """The language to recognise, Mandarin unless asked. Raises BadRequest for an unknown one."""
    language = (asked or DEFAULT_LANGUAGE).lower()
    if language not in known:
        raise BadRequest(f"The model does not know the language {asked!r}.", "language")
    return language


def full_prompt(language: str, prompt: str | None) -> str:
    """The style prompt of the language, then the user's own."""
    return "".join(part for part in (STYLE_PROMPTS.get(language), prompt) if part)
