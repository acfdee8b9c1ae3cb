"""One request end to end: decode -> VAD -> plan segments -> dispatch -> merge -> punctuate.

Stateless but for the requests under way; any number of replicas. The audio stays here until its
request is done, so that a chunk whose replica died can be sent again.
"""

from __future__ import annotations

import asyncio
import threading
import time
import uuid
from collections.abc import AsyncGenerator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from deployments.calls import Calls, HandleCalls
from deployments.core.audio import decode
from deployments.core.errors import BadRequest, TimedOut, UnknownModel
from deployments.core.hotwords import check_hotwords
from deployments.core.languages import language_code
from deployments.core.segments import plan_segments
from deployments.core.types import (
    Audio,
    Delta,
    Done,
    EngineInfo,
    Event,
    Hints,
    Progress,
    Segment,
    TranscribeOptions,
    Transcript,
    Upload,
)
from deployments.deadline import within
from deployments.fanout import fan_out, in_background
from deployments.itn import has_effect
from deployments.writer import Writer

MODEL_ALIASES = ("whisper-1",)  # what OpenAI's clients send by habit


@dataclass(frozen=True, slots=True)
class RouterPlan:
    """What the router knows of the graph it stands in; made once in `app.build`."""

    engine: EngineInfo
    languages: tuple[str, ...]  # accepted; the first is the default
    punctuate: bool
    pools: Mapping[str, EngineInfo]  # how each pool runs the model
    notes: tuple[str, ...]  # what a user should know, such as: this is the fallback, and why
    max_audio_s: float
    max_prompt_chars: int
    max_hotwords: int
    decode_threads: int
    decode_timeout_s: float
    request_timeout_s: float  # of the whole, for callers over a handle; HTTP has its own


class Router:
    """`transcribe(upload, options)` and its streaming form `stream(upload, options)`."""

    def __init__(self, plan: RouterPlan, calls_arguments: dict[str, Any]) -> None:
        self._plan = plan
        self._calls = HandleCalls(**calls_arguments)
        self._pipeline = Pipeline(plan, self._calls)

    async def transcribe(self, upload: Upload, options: TranscribeOptions) -> Transcript:
        """The finished transcript. Raises the errors of `core/errors.py`."""
        transcript: Transcript | None = None
        async with aclosing(self.stream(upload, options)) as events:
            async for event in events:
                if isinstance(event, Done):
                    transcript = event.transcript
        assert transcript is not None
        return transcript

    async def stream(self, upload: Upload, options: TranscribeOptions) -> AsyncGenerator[Event]:
        """Deltas and progress in order, `Done` last. Raises TimedOut at the request's limit."""
        running = self._pipeline.run(upload, options)
        async with aclosing(within(self._plan.request_timeout_s, running)) as events:
            async for event in events:
                yield event

    async def models(self) -> list[dict[str, Any]]:
        """The one model served, in OpenAI's form with how it runs."""
        plan = self._plan
        return [
            {
                "id": plan.engine.name,
                "object": "model",
                "created": 0,
                "owned_by": "paraformer-cluster",
                "word_times": plan.engine.has_word_times,
                "punctuation": plan.punctuate or plan.engine.punctuates,
                "languages": list(plan.languages),
                "pools": {
                    name: {"device": info.device, "dtype": info.dtype}
                    for name, info in plan.pools.items()
                },
                "notes": list(plan.notes),
            }
        ]

    async def ready(self) -> dict[str, Any]:
        """Whether a request would be served: every stage runs, and a pool runs or can start."""
        snapshot = await self._calls.snapshot()
        stages = ["vad", *(["punctuation"] if self._plan.punctuate else [])]
        running = {stage: snapshot["running"].get(stage, 0) for stage in stages}
        pools = snapshot["pools"].values()
        can_recognise = any(pool["replicas"] or pool["can_start"] for pool in pools)
        return {
            "ready": all(running.values()) and can_recognise,
            "stages": running,
            "pools": snapshot["pools"],
            "requests": snapshot["requests"],
            "waiting_audio_s": snapshot["waiting_audio_s"],
            "queue_s": snapshot["queue_s"],
        }


class Pipeline:
    """The router without Ray: everything outside comes through `calls`."""

    def __init__(self, plan: RouterPlan, calls: Calls) -> None:
        self._plan, self._calls = plan, calls
        self._decoding = asyncio.Semaphore(plan.decode_threads)
        self._decoders = ThreadPoolExecutor(plan.decode_threads, thread_name_prefix="decode")

    async def run(self, upload: Upload, options: TranscribeOptions) -> AsyncGenerator[Event]:
        """The request as a stream of events; the deltas joined are the transcript's text."""
        began_s = time.monotonic()
        options = self._checked(options)
        hints, idle = effective(options, self._plan.engine)
        audio = await self._decoded(upload, options.channel)
        segments: list[Segment] = []  # grows while the VAD reads the recording
        punctuate = self._calls.punctuate if self._plan.punctuate else None
        writer = Writer(segments, self._plan.engine, punctuate, options)
        request = uuid.uuid4().hex
        answering = fan_out(request, self._segments(audio, segments), audio, hints, self._calls)
        async with aclosing(in_background(answering)) as rounds:
            async for answers in rounds:
                if delta := await writer.add(answers):
                    yield Delta(delta)
                yield Progress(*writer.progress_ms())
        if delta := await writer.finish():
            yield Delta(delta)
        transcript = writer.transcript(
            duration_ms=len(audio) // 16, language=hints.language or self._plan.languages[0]
        )
        wall_ms = (time.monotonic() - began_s) * 1000
        warnings = (*idle, *transcript.warnings)
        yield Done(replace(transcript, wall_ms=round(wall_ms, 3), warnings=warnings))

    async def _segments(
        self, audio: Audio, segments: list[Segment]
    ) -> AsyncGenerator[list[Segment]]:
        """The recording's segments as the VAD finds them; each is added to `segments` before."""
        max_segment_ms = self._plan.engine.max_segment_ms
        async with aclosing(self._calls.detect(audio)) as pieces:
            async for spans in pieces:
                planned = plan_segments(spans, audio, max_segment_ms=max_segment_ms)
                fresh = [replace(s, index=len(segments) + s.index) for s in planned]
                segments += fresh
                yield fresh

    def _checked(self, options: TranscribeOptions) -> TranscribeOptions:
        """The options with the language's code; handles get the same answers as HTTP.

        Raises UnknownModel and BadRequest for what this deployment cannot do.
        """
        engine, model = self._plan.engine, options.model
        if model is not None and model not in (engine.name, *MODEL_ALIASES):
            raise UnknownModel(model, (engine.name,))
        if options.word_times and not engine.has_word_times:
            raise BadRequest(
                f"The model {engine.name!r} has no word times.", "timestamp_granularities[]"
            )
        hints = options.hints
        if len(hints.prompt or "") > self._plan.max_prompt_chars:
            limit = self._plan.max_prompt_chars
            raise BadRequest(f"prompt has more than {limit} characters.", "prompt")
        hotwords = check_hotwords(hints.hotwords, max_hotwords=self._plan.max_hotwords)
        language = language_code(hints.language) if hints.language else None
        if language is not None and language not in self._plan.languages:
            raise BadRequest(f"{engine.name!r} does not recognise {hints.language!r}.", "language")
        return replace(options, hints=replace(hints, language=language, hotwords=hotwords))

    async def _decoded(self, upload: Upload, channel: int | None) -> Audio:
        """The samples, from the bounded pool of threads; raises TimedOut, and what `decode` raises.

        The limit counts from the moment a thread is free. A thread whose request is gone stops.
        """
        stop = threading.Event()
        work = partial(decode, upload, channel=channel, max_duration_s=self._plan.max_audio_s)
        async with self._decoding:
            loop = asyncio.get_running_loop()
            future = loop.run_in_executor(self._decoders, partial(work, stop=stop))
            try:
                return await asyncio.wait_for(future, self._plan.decode_timeout_s)
            except TimeoutError:
                raise TimedOut("decoding", self._plan.decode_timeout_s) from None
            finally:
                stop.set()


def effective(options: TranscribeOptions, engine: EngineInfo) -> tuple[Hints, tuple[str, ...]]:
    """The hints that the engine takes, and a warning for each option without effect."""
    hints = options.hints
    idle = [n for n in ("prompt", "hotwords") if getattr(hints, n) and n not in engine.hints]
    kept = Hints(
        language=hints.language,
        prompt=None if "prompt" in idle else hints.prompt,
        hotwords=() if "hotwords" in idle else hints.hotwords,
    )
    idle += ["itn"] if options.itn and not has_effect(engine) else []
    return kept, tuple(f"{name}: no effect with the model {engine.name!r}." for name in idle)
