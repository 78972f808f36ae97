"""From scans to the network's input and back: slices for two-dimensional networks, volumes for the others."""

from napari_llm4seg.preprocess.scale import Scale, Tally, needs_values
from napari_llm4seg.preprocess.slices import Preprocessor, Trace
from napari_llm4seg.preprocess.stream import VolumeStream
from napari_llm4seg.preprocess.volumes import SliceReader, VolumePreprocessor, VolumeTrace

__all__ = [
    "Preprocessor",
    "Scale",
    "SliceReader",
    "Tally",
    "Trace",
    "VolumePreprocessor",
    "VolumeStream",
    "VolumeTrace",
    "needs_values",
]
