"""One request end to end: decode -> VAD -> plan segments -> dispatch -> merge -> punctuate.

A router keeps no state but that of its open requests, so there may be any number of replicas. The
audio stays in the router until its request is done. A chunk whose replica died can then be sent
again.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import Any

from deployments.core.errors import Draining, TimedOut
from deployments.core.media.decode import decode
from deployments.core.request_id import new_request_id
from deployments.core.segments import plan_segments
from deployments.core.types import (
    Audio,
    Delta,
    Done,
    Progress,
    Segment,
    StoredUpload,
    StreamEvent,
    TranscribeOptions,
    Transcript,
    Upload,
)
from deployments.request.ahead import in_background
from deployments.request.calls import Calls, HandleCalls
from deployments.request.deadline import within
from deployments.request.fanout import fan_out
from deployments.request.journal import Before, Forgetful, Journal
from deployments.request.memory import AudioMemory, Held
from deployments.request.plan import RouterPlan, checked, effective
from deployments.request.stored import mapped
from deployments.request.writer import Writer


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
        self,
        upload: Upload,
        options: TranscribeOptions,
        request: str | None = None,
        journal: Journal | None = None,
    ) -> AsyncGenerator[StreamEvent]:
        """The request as a stream of events. The deltas, joined, are the text of the transcript.

        A request with a journal goes behind all others. It begins with the answers that an earlier
        attempt left in the journal.
        """
        with self.memory.request() as held:
            request = request or new_request_id()
            async with aclosing(self._run(request, upload, options, held, journal)) as events:
                async for event in events:
                    yield event

    async def _run(
        self,
        request: str,
        upload: Upload,
        options: TranscribeOptions,
        held: Held,
        journal: Journal | None,
    ) -> AsyncGenerator[StreamEvent]:
        began_s = time.monotonic()
        options = checked(options, self._plan)
        hints, warnings = effective(options, self._plan)
        audio, heard = await self._decoded(upload, options.channel, held)
        notes = Forgetful() if journal is None else journal
        before = await notes.before(audio)
        segments: list[Segment] = []  # grows while the VAD reads the recording
        punctuate = self._calls.punctuate if self._plan.punctuate else None
        writer = Writer(segments, self._plan.engine, punctuate, options)
        answering = fan_out(
            request,
            self._segments(audio, segments, notes, before),
            audio,
            hints,
            self._calls,
            known=before.answers,
            background=journal is not None,
        )
        async with aclosing(in_background(answering)) as rounds:
            async for answers, are_last in rounds:
                delta = await writer.add(answers, are_last=are_last)
                fresh = {i: a for i, a in answers.items() if i not in before.answers}
                await notes.keep(fresh, writer.final_segments())
                if delta:
                    yield Delta(delta)
                yield Progress(*writer.progress_ms())
        transcript = writer.transcript(
            duration_ms=len(audio) // 16, language=hints.language or self._plan.languages[0]
        )
        wall_ms = (time.monotonic() - began_s) * 1000
        warnings = (*warnings, *heard, *transcript.warnings)
        yield Done(replace(transcript, wall_ms=round(wall_ms, 3), warnings=warnings))

    async def _segments(
        self, audio: Audio, segments: list[Segment], journal: Journal, before: Before
    ) -> AsyncGenerator[list[Segment]]:
        """The segments as the VAD finds them. Each is added to `segments` before it is yielded.

        Those that an earlier attempt found come first, as they were. Each span of speech is cut by
        itself, so the rest does not depend on where that attempt ended.
        """
        if before.segments:
            segments += before.segments
            yield list(before.segments)
        if before.is_all:
            return
        told_ms = before.segments[-1].end_ms if before.segments else 0
        max_segment_ms = self._plan.engine.max_segment_ms
        async with aclosing(self._calls.detect(audio)) as pieces:
            async for spans in pieces:
                later = [span for span in spans if span.end_ms > told_ms]
                planned = plan_segments(later, audio, max_segment_ms=max_segment_ms)
                fresh = [replace(s, index=len(segments) + s.index) for s in planned]
                if fresh:
                    await journal.planned(fresh, is_all=False)
                segments += fresh
                yield fresh
        await journal.planned((), is_all=True)

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
