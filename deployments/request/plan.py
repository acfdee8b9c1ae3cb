"""What a router knows of the graph around it, and the options that this graph can serve."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from deployments.core.errors import BadRequest, UnknownModel
from deployments.core.hints import check_hotwords
from deployments.core.types import EngineInfo, Hints, TranscribeOptions
from deployments.request.itn import has_effect
from deployments.request.languages import served_language

MAX_SHOWN = 100  # characters of a value in an error


@dataclass(frozen=True, slots=True)
class RouterPlan:
    """What the router knows of the graph around it. Made once, in `app.build`."""

    engine: EngineInfo
    languages: tuple[str, ...]  # accepted; the first is the default
    aliases: tuple[str, ...]  # patterns of other names for the model
    punctuate: bool
    pools: Mapping[str, EngineInfo]  # how each pool runs the model
    notes: tuple[str, ...]  # for users, such as: this is the fallback model, and why
    max_audio_s: float
    max_held_audio_s: float  # of all requests of a router together
    max_prompt_chars: int
    max_hotwords: int
    decode_threads: int
    decode_timeout_s: float
    request_timeout_s: float  # of the whole request, for callers over a handle; HTTP has its own

    def check_model(self, name: str) -> None:
        """Raises UnknownModel unless this is the served model or one of its aliases."""
        served = self.engine.name
        if name != served and not any(fnmatchcase(name, alias) for alias in self.aliases):
            raise UnknownModel(name, (served,))


def checked(options: TranscribeOptions, plan: RouterPlan) -> TranscribeOptions:
    """The options, checked, with the code of the language.

    They are checked here and not in the ingress, so that handles get the same errors as HTTP.
    Raises UnknownModel and BadRequest for options that this deployment cannot serve.
    """
    engine = plan.engine
    if options.model is not None:
        plan.check_model(options.model)
    if options.word_times and not engine.has_word_times:
        raise BadRequest(
            f"The model {engine.name!r} has no word times.", "timestamp_granularities[]"
        )
    hints = options.hints
    hotwords = check_hotwords(hints.hotwords, max_hotwords=plan.max_hotwords)
    try:
        language = served_language(hints.language or "", plan.languages)
    except LookupError:
        asked = (hints.language or "")[:MAX_SHOWN]
        raise BadRequest(f"{engine.name!r} does not recognise {asked!r}.", "language") from None
    return replace(options, hints=replace(hints, language=language, hotwords=hotwords))


def effective(options: TranscribeOptions, plan: RouterPlan) -> tuple[Hints, tuple[str, ...]]:
    """The hints that the engine uses, and a warning for each option without full effect.

    Of a long prompt the end is kept, which says most about the words that follow.
    """
    engine, hints, limit = plan.engine, options.hints, plan.max_prompt_chars
    prompt = hints.prompt or ""
    end = prompt[max(0, len(prompt) - limit) :]
    idle = [n for n in ("prompt", "hotwords") if getattr(hints, n) and n not in engine.hints]
    kept = Hints(
        language=hints.language,
        prompt=None if "prompt" in idle else end or None,
        hotwords=() if "hotwords" in idle else hints.hotwords,
        timed=options.timed or options.word_times,
    )
    idle += ["itn"] if options.itn and not has_effect(engine) else []
    warnings = [f"{name}: no effect with the model {engine.name!r}." for name in idle]
    if end != prompt and "prompt" not in idle:
        warnings.append(f"prompt: only the last {limit} characters are used.")
    return kept, tuple(warnings)
