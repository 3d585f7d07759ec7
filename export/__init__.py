"""Export of networks to bundles: SavedModel and ONNX, checked against Keras."""

from export import formats
from export.acting import choose as choose_network
from export.bundle import Bundle, export_bundle
from export.draft import Description
from export.manifest import Manifest
from export.precisions import summarize as summarize_precisions
from export.triton import export_triton
from export.verify import Report, verify_bundle
from export.vocoder import with_vocoder

__all__ = [
    "Bundle",
    "Description",
    "Manifest",
    "Report",
    "choose_network",
    "export_bundle",
    "export_triton",
    "formats",
    "summarize_precisions",
    "verify_bundle",
    "with_vocoder",
]
