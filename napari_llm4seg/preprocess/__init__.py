"""From scans to the network's input and back: slices for two-dimensional networks, volumes for the others."""

from napari_llm4seg.preprocess.slices import Preprocessor, Trace
from napari_llm4seg.preprocess.volumes import SliceReader, VolumePreprocessor, VolumeTrace

__all__ = ["Preprocessor", "SliceReader", "Trace", "VolumePreprocessor", "VolumeTrace"]
