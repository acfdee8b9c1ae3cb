"""One request end to end: decode -> VAD -> plan segments -> dispatch -> merge -> punctuate.

A router keeps no state but that of its open requests, so there may be any number of replicas. The
audio stays in the router until its request is done. A chunk whose replica died can then be sent
again.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

from deployments.core.errors import BadRequest, Draining, TimedOut, UnknownModel
from deployments.core.hints import check_hotwords
from deployments.core.media.decode import decode
from deployments.core.request_id import new_request_id
from deployments.core.segments import plan_segments
from deployments.core.types import (
    Audio,
    Delta,
    Done,
    EngineInfo,
    Hints,
    Progress,
    Segment,
    StoredUpload,
    StreamEvent,
    TranscribeOptions,
    Transcript,
    Upload,
)
from deployments.request.calls import Calls, HandleCalls
from deployments.request.deadline import within
from deployments.request.fanout import fan_out, in_background
from deployments.request.itn import has_effect
from deployments.request.languages import served_language
from deployments.request.memory import AudioMemory, Held
from deployments.request.stored import mapped
from deployments.request.writer import Writer

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


class Router:
    """`transcribe(upload, options)` and its streaming form `stream(upload, options)`."""

    def __init__(self, plan: RouterPlan, calls_arguments: dict[str, Any]) -> None:
        self._plan = plan
        self._draining: Draining | None = None  # once the dispatcher refused a request with it
        self._calls = HandleCalls(**calls_arguments)
        self._pipeline = Pipeline(plan, self._calls)

    async def transcribe(
        self, upload: Upload | StoredUpload, options: TranscribeOptions, request: str | None = None
    ) -> Transcript:
        """The finished transcript. Raises NotHere and the errors of `core/errors.py`.

        `request` is the id of a request that arrived earlier, where it has one.
        """
        transcript: Transcript | None = None
        async with aclosing(self.stream(upload, options, request)) as events:
            async for event in events:
                if isinstance(event, Done):
                    transcript = event.transcript
        assert transcript is not None
        return transcript

    async def stream(
        self, upload: Upload | StoredUpload, options: TranscribeOptions, request: str | None = None
    ) -> AsyncGenerator[StreamEvent]:
        """Deltas and progress in order, `Done` last. Raises TimedOut at the request's timeout.

        Raises NotHere before the first event, if the upload is in a file that this process cannot
        open.
        """
        if self._draining:
            raise self._draining
        running = self._pipeline.run(mapped(upload), options, request)
        async with aclosing(within(self._plan.request_timeout_s, running)) as events:
            try:
                async for event in events:
                    yield event
            except Draining as draining:
                self._draining = draining
                raise

    async def model(self, name: str | None = None) -> dict[str, Any]:
        """The model that is served, in OpenAI's form, and how it runs.

        Raises UnknownModel for a name that is neither the model's nor an alias.
        """
        plan = self._plan
        if name is not None:
            plan.check_model(name)
        return {
            "id": plan.engine.name,
            "object": "model",
            "created": 0,
            "owned_by": "paraformer-cluster",
            "aliases": list(plan.aliases),
            "word_times": plan.engine.has_word_times,
            "punctuation": plan.punctuate or plan.engine.punctuates,
            "languages": list(plan.languages),
            "pools": {
                name: {"device": info.device, "dtype": info.dtype}
                for name, info in plan.pools.items()
            },
            "notes": list(plan.notes),
        }

    async def models(self) -> list[dict[str, Any]]:
        """The one model that is served."""
        return [await self.model()]

    async def ready(self) -> dict[str, Any]:
        """Whether a request would be served: every stage runs, and some pool runs or can start."""
        snapshot = await self._calls.snapshot()
        stages = ["vad", *(["punctuation"] if self._plan.punctuate else [])]
        running = {stage: snapshot["running"].get(stage, 0) for stage in stages}
        pools = snapshot["pools"].values()
        can_recognise = any(pool["replicas"] or pool["can_start"] for pool in pools)
        return {
            "ready": all(running.values()) and can_recognise and not snapshot["draining"],
            "draining": snapshot["draining"],
            "stages": running,
            "pools": snapshot["pools"],
            "requests": snapshot["requests"],
            "held_audio_s": self._pipeline.memory.held_s,  # of this router, as is the next
            "max_held_audio_s": self._plan.max_held_audio_s,
            "waiting_audio_s": snapshot["waiting_audio_s"],
            "queue_s": snapshot["queue_s"],
            "interactive_queue_s": snapshot["interactive_queue_s"],
        }


class Pipeline:
    """The router without Ray. It reaches other deployments through `calls` only."""

    def __init__(self, plan: RouterPlan, calls: Calls) -> None:
        self._plan, self._calls = plan, calls
        self.memory = AudioMemory(plan.max_held_audio_s)
        self._decoding = asyncio.Semaphore(plan.decode_threads)
        self._decoders = ThreadPoolExecutor(plan.decode_threads, thread_name_prefix="decode")

    async def run(
        self, upload: Upload, options: TranscribeOptions, request: str | None = None
    ) -> AsyncGenerator[StreamEvent]:
        """The request as a stream of events. The deltas, joined, are the text of the transcript."""
        with self.memory.request() as held:
            request = request or new_request_id()
            async with aclosing(self._run(request, upload, options, held)) as events:
                async for event in events:
                    yield event

    async def _run(
        self, request: str, upload: Upload, options: TranscribeOptions, held: Held
    ) -> AsyncGenerator[StreamEvent]:
        began_s = time.monotonic()
        options = self._checked(options)
        hints, warnings = effective(options, self._plan)
        audio, heard = await self._decoded(upload, options.channel, held)
        segments: list[Segment] = []  # grows while the VAD reads the recording
        punctuate = self._calls.punctuate if self._plan.punctuate else None
        writer = Writer(segments, self._plan.engine, punctuate, options)
        answering = fan_out(request, self._segments(audio, segments), audio, hints, self._calls)
        async with aclosing(in_background(answering)) as rounds:
            async for answers, are_last in rounds:
                if delta := await writer.add(answers, are_last=are_last):
                    yield Delta(delta)
                yield Progress(*writer.progress_ms())
        transcript = writer.transcript(
            duration_ms=len(audio) // 16, language=hints.language or self._plan.languages[0]
        )
        wall_ms = (time.monotonic() - began_s) * 1000
        warnings = (*warnings, *heard, *transcript.warnings)
        yield Done(replace(transcript, wall_ms=round(wall_ms, 3), warnings=warnings))

    async def _segments(
        self, audio: Audio, segments: list[Segment]
    ) -> AsyncGenerator[list[Segment]]:
        """The segments as the VAD finds them. Each is added to `segments` before it is yielded."""
        max_segment_ms = self._plan.engine.max_segment_ms
        async with aclosing(self._calls.detect(audio)) as pieces:
            async for spans in pieces:
                planned = plan_segments(spans, audio, max_segment_ms=max_segment_ms)
                fresh = [replace(s, index=len(segments) + s.index) for s in planned]
                segments += fresh
                yield fresh

    def _checked(self, options: TranscribeOptions) -> TranscribeOptions:
        """The options, checked, with the code of the language.

        They are checked here and not in the ingress, so that handles get the same errors as HTTP.
        Raises UnknownModel and BadRequest for options that this deployment cannot serve.
        """
        engine = self._plan.engine
        if options.model is not None:
            self._plan.check_model(options.model)
        if options.word_times and not engine.has_word_times:
            raise BadRequest(
                f"The model {engine.name!r} has no word times.", "timestamp_granularities[]"
            )
        hints = options.hints
        hotwords = check_hotwords(hints.hotwords, max_hotwords=self._plan.max_hotwords)
        try:
            language = served_language(hints.language or "", self._plan.languages)
        except LookupError:
            asked = (hints.language or "")[:MAX_SHOWN]
            raise BadRequest(f"{engine.name!r} does not recognise {asked!r}.", "language") from None
        return replace(options, hints=replace(hints, language=language, hotwords=hotwords))

    async def _decoded(
        self, upload: Upload, channel: int | None, held: Held
    ) -> tuple[Audio, list[str]]:
        """The samples, decoded in a bounded pool of threads, and what users should know of them.

        The timeout counts from the moment when a thread is free. A thread whose request is gone
        stops. Raises TimedOut, and what `decode` raises.
        """
        stop = threading.Event()
        heard: list[str] = []
        work = partial(
            decode,
            upload,
            channel=channel,
            max_duration_s=self._plan.max_audio_s,
            stop=stop,
            admit=held.admit,
            warn=heard.append,
        )
        async with self._decoding:
            loop = asyncio.get_running_loop()
            future = loop.run_in_executor(self._decoders, work)
            try:
                return await asyncio.wait_for(future, self._plan.decode_timeout_s), heard
            except TimeoutError:
                raise TimedOut("decoding", self._plan.decode_timeout_s) from None
            finally:
                stop.set()


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
