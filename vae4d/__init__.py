"""vae4d: 4D video autoencoders for research, from two frames to any moment and camera between them."""

from . import register
from .checkpoint import build_model, load_model
from .checkpoint import load_model as load
from .config import PRESETS, ModelConfig, SharpConfig
from .faithful.model import Encoded, VideoAutoencoder4D
from .interface import Synthesis
from .sharp.model import SharpAutoencoder4D, SharpSynthesis

__version__ = "0.1.0"
__all__ = [
    "PRESETS", "Encoded", "ModelConfig", "SharpAutoencoder4D", "SharpConfig", "SharpSynthesis", "Synthesis", "VideoAutoencoder4D",
    "build_model", "load", "load_model", "register",
]  # fmt: skip
