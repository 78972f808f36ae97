"""Prediction: a checkpoint run over a scan on its own grid."""

from __future__ import annotations

from napari_llm4seg.predict.predictor import Predictor, load_model

__all__ = ["Predictor", "load_model"]
