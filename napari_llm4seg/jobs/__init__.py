"""Work off the caller's path: progress with the time left, partial results, cancel. No Qt, no torch."""

from __future__ import annotations

from napari_llm4seg.jobs.job import JobContext, JobHandle, Progress
from napari_llm4seg.jobs.runners import InlineRunner, ThreadRunner

__all__ = ["InlineRunner", "JobContext", "JobHandle", "Progress", "ThreadRunner"]
