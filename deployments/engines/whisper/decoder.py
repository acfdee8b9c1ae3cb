"""Whisper's decoder as an ONNX graph, and greedy decoding with it.

The graph is Hugging Face's merged export. Its first call reads the prefix and computes the
cross-attention keys. Each later call reads one token, given the cached past.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

MAX_CONTEXT_TOKENS = 448  # of the decoder, prefix included


@dataclass(frozen=True, slots=True)
class Decoded:
    """The tokens of a window, without the end token, and the model's confidence in them."""

    tokens: tuple[int, ...]
    ended: bool  # False: cut off by the token limit or by `stop`
    no_speech_prob: float
    avg_logprob: float  # the mean over the tokens, including the end token


class WhisperDecoder:
    """The merged decoder graph of one checkpoint, on the CPU."""

    def __init__(self, path: Path, options: ort.SessionOptions) -> None:
        self._session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        past = [i for i in self._session.get_inputs() if i.name.startswith("past_key_values.")]
        self._empty = {
            i.name: ort.OrtValue.ortvalue_from_numpy(
                np.zeros((1, i.shape[1], 0, i.shape[3]), np.float32)
            )
            for i in past
        }
        self._own_past = [i.name for i in past if ".decoder." in i.name]

    def start(
        self, states: ort.OrtValue, prefix: Sequence[int]
    ) -> tuple[NDArray[np.float32], dict[str, ort.OrtValue]]:
        """The logits after each token of the prefix, (n_prefix, n_tokens), and the cached past."""
        return self._run(states, prefix, self._empty, list(self._empty), use_cache=False)

    def step(
        self, states: ort.OrtValue, token: int, past: dict[str, ort.OrtValue]
    ) -> tuple[NDArray[np.float32], dict[str, ort.OrtValue]]:
        """The logits after one more token, (1, n_tokens), and the extended past."""
        logits, longer = self._run(states, [token], past, self._own_past, use_cache=True)
        return logits, past | longer

    def _run(
        self,
        states: ort.OrtValue,
        tokens: Sequence[int],
        past: dict[str, ort.OrtValue],
        wanted: Sequence[str],
        *,
        use_cache: bool,
    ) -> tuple[NDArray[np.float32], dict[str, ort.OrtValue]]:
        binding = self._session.io_binding()
        binding.bind_cpu_input("input_ids", np.array([tokens], np.int64))
        binding.bind_cpu_input("use_cache_branch", np.array([use_cache]))
        binding.bind_ortvalue_input("encoder_hidden_states", states)
        for name, value in past.items():
            binding.bind_ortvalue_input(name, value)
        binding.bind_output("logits")
        for name in wanted:
            binding.bind_output(name.replace("past_key_values.", "present."))
        self._session.run_with_iobinding(binding)
        logits, *present = binding.get_outputs()
        return logits.numpy()[0], dict(zip(wanted, present, strict=True))


def decode_greedily(
    decoder: WhisperDecoder,
    states: ort.OrtValue,
    prefix: Sequence[int],
    *,
    rules: Callable[[NDArray[np.float32], Sequence[int]], NDArray[np.float32]],
    stop: Callable[[Sequence[int]], bool],
    start_token: int,
    end_token: int,
    no_speech_token: int,
    max_new_tokens: int,
) -> Decoded:
    """Decodes the likeliest token at each step, until the end token, the limit or `stop`."""
    logits, past = decoder.start(states, prefix)
    at_start = logits[len(prefix) - 1 - list(reversed(prefix)).index(start_token)]
    no_speech_prob = float(np.exp(at_start[no_speech_token] - log_sum_exp(at_start)))
    written: list[int] = []
    sum_logprob, ended = 0.0, False
    limit = min(max_new_tokens, MAX_CONTEXT_TOKENS - len(prefix))
    while len(written) < limit:
        allowed = rules(logits[-1], written)
        token = int(allowed.argmax())
        sum_logprob += float(allowed[token] - log_sum_exp(allowed))
        if token == end_token:
            ended = True
            break
        written.append(token)
        if stop(written):
            break
        logits, past = decoder.step(states, token, past)
    n_scored = len(written) + ended
    return Decoded(tuple(written), ended, no_speech_prob, sum_logprob / max(1, n_scored))


def log_sum_exp(logits: NDArray[np.float32]) -> float:
    """log(sum(exp(logits))), safe for large values."""
    peak = logits.max()
    return float(peak + np.log(np.exp(logits - peak).sum()))
