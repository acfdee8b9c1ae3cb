"""Whisper's encoder as an ONNX graph whose context is as long as the audio, not always 30 s.

The exported graph works at any length except for one constant, the table of 1500 positions. Here
the table becomes an input, and each call passes only the rows it needs. A segment of 6 s then costs
a quarter of 30 s in the encoder, and less in every step of the decoder. It is read no worse.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from deployments.core.errors import ModelUnavailable
from deployments.core.types import SAMPLES_PER_MS, Audio
from deployments.engines.whisper.contract import WINDOW_MS
from deployments.engines.whisper.features import N_FRAMES, log_mel

POSITIONS = "embed_positions.weight"  # the table's name in Hugging Face's exports
MARGIN_MS = 2000  # of silence after the audio, by which the model finds the end
# A shorter context costs accuracy. Here are the errors of small q8, on the clips and the meeting.
# Without a least context: 22.1 and 9.5 %. With 5 s: 19.4 and 9.5 %. With 10 s: 18.2 and 9.2 %. With
# a context of 30 s throughout: 20.0 and 10.0 %.
MIN_CONTEXT_MS = 10_000
FRAMES_PER_STATE = 2
ROWS = np.arange(2)[:, None]
MS_PER_FRAME = 10


class WhisperEncoder:
    """Turns audio into the states that the decoder reads."""

    def __init__(self, path: Path, options: ort.SessionOptions) -> None:
        """Raises ModelUnavailable if the graph has no table of positions."""
        graph = path.read_bytes()
        self._session = ort.InferenceSession(
            graph + replaceable(POSITIONS), options, providers=["CPUExecutionProvider"]
        )
        features, states = self._session.get_inputs()[0], self._session.get_outputs()[0]
        self._features, self._states = features.name, states.name
        try:
            self._positions = positions(graph, N_FRAMES // FRAMES_PER_STATE, states.shape[2])
        except ValueError as error:
            raise ModelUnavailable(path.name, f"{error} Fetch the weights again.") from error

    def encode(self, audio: Audio, n_mels: int) -> ort.OrtValue:
        """The states of up to 30 s of audio, (1, n_states, width), one for each 20 ms."""
        n_frames = context_ms(len(audio) // SAMPLES_PER_MS) // MS_PER_FRAME
        states = self._session.run(
            [self._states],
            {
                self._features: log_mel(audio, n_mels, n_frames)[None],
                POSITIONS: self._positions[: n_frames // FRAMES_PER_STATE],
            },
        )
        return ort.OrtValue.ortvalue_from_numpy(states[0])


def context_ms(n_ms: int) -> int:
    """The part of the window that the model reads for audio of `n_ms`, in whole seconds."""
    wanted_ms = max(MIN_CONTEXT_MS, n_ms + MARGIN_MS)
    return min(-(-wanted_ms // 1000) * 1000, WINDOW_MS)


def positions(graph: bytes, n_positions: int, width: int) -> NDArray[np.float32]:
    """The table of positions in a serialised graph, (n_positions, width).

    The table is found by its first two rows: sines and cosines, in the half precision in which
    they were released. It is not computed by the formula, which is wrong in the last bit of some
    values, because the int8 layers amplify that. Raises ValueError if it is not in the graph.
    """
    frequency = np.exp(-np.log(10_000) / (width // 2 - 1) * np.arange(width // 2))
    first_rows = np.concatenate([np.sin(ROWS * frequency), np.cos(ROWS * frequency)], axis=1)
    start = graph.find(first_rows.astype(np.float16).astype(np.float32).tobytes())
    if start < 0:
        raise ValueError("The graph has no table of positions.")
    return np.frombuffer(graph, "<f4", n_positions * width, start).reshape(n_positions, width)


def replaceable(initializer: str) -> bytes:
    """Bytes that, appended to a serialised ONNX model, make a constant an input of each run.

    ONNX lets a caller replace an initialiser that is also listed among the graph's inputs. A
    protocol buffer that is appended to another is merged with it. So these bytes are a model that
    holds only `graph.input = [the initialiser, a float matrix]`. Field numbers are onnx.proto's.
    """
    free = _field(1, _field(2, b"n"))  # shape.dim { dim_param: "n" }
    matrix = b"\x08\x01" + _field(2, free + free)  # elem_type: FLOAT, shape
    value = _field(1, initializer.encode()) + _field(2, _field(1, matrix))  # name, type.tensor_type
    return _field(7, _field(11, value))  # model.graph, graph.input


def _field(number: int, payload: bytes) -> bytes:
    """A length-delimited field of a protocol buffer. Only for small numbers and lengths."""
    assert number < 16
    assert len(payload) < 128
    return bytes([number << 3 | 2, len(payload)]) + payload
