"""The rules that both Whisper engines share: settings, languages, prompts, description."""

from __future__ import annotations

from collections.abc import Container

from deployments.core.errors import BadRequest, ModelUnavailable
from deployments.core.types import EngineInfo
from deployments.engines.protocols import EngineSettings

WINDOW_MS = 30_000  # that the model reads at once
MAX_SEGMENT_MS = 25_000  # Whisper finds the end by the silence in the rest of the window
DEFAULT_LANGUAGE = "zh"

# Whisper writes in the style of its prompt. This one has simplified characters and punctuation.
# Without a prompt a third of the clips come in traditional characters, and most without any mark.
# Without the request for marks ("请加上标点符号") small q8 makes fewer mistakes on the clips (18.8
# instead of 19.4 %) and as many on the meeting. But then both sizes write words for mere clicks.
STYLE_PROMPTS = {"zh": "以下是普通话的句子，请加上标点符号。"}


def whisper_info(settings: EngineSettings, *, dtype: str) -> EngineInfo:
    """The engine's description. `dtype` is the number format in which its weights were released.

    Raises ModelUnavailable for a GPU, and for a half precision that is not that of the weights.
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
    """The language to recognise, by default Mandarin. Raises BadRequest for an unknown one."""
    language = (asked or DEFAULT_LANGUAGE).lower()
    if language not in known:
        raise BadRequest(f"The model does not know the language {asked!r}.", "language")
    return language


def full_prompt(language: str, prompt: str | None) -> str:
    """The style prompt of the language, followed by the user's prompt."""
    return "".join(part for part in (STYLE_PROMPTS.get(language), prompt) if part)
