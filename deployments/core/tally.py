"""What a pool's answered chunks cost, for whoever watches; nothing is planned from it."""

from __future__ import annotations

from dataclasses import dataclass

from deployments.core.events import Finished


@dataclass(slots=True)
class Tally:
    """Sums over one pool's answers since its dispatcher began."""

    audio_ms: int = 0
    padded_ms: int = 0
    n_out_of_memory: int = 0  # batches that did not fit and were halved

    def add(self, report: Finished) -> None:
        self.audio_ms += report.audio_ms
        self.padded_ms += report.padded_ms
        self.n_out_of_memory += report.n_out_of_memory

    @property
    def padding(self) -> float | None:
        """The part of what was computed that was padding, 0..1; None before anything was."""
        if not self.padded_ms:
            return None
        return max(0.0, 1 - self.audio_ms / self.padded_ms)  # parts of a batch are rounded
