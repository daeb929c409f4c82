"""What notebook 05_evaluate measures: which clips, which methods, and which identity tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ..checkpoint import shipped
from ..clips.clip import SPLITS, Clip
from ..clips.datasets import ready_dataset
from ..errors import ClipError, ConfigError, Vae4dError
from ..evaluation.frame_folders import FrameFolderMethod
from ..evaluation.identity import COLUMNS, FramePair, identity_tests
from ..evaluation.methods import Method, ModelMethod, PairMethod, baselines, load_user_method
from ..evaluation.pairs import pairs_of
from ..evaluation.scene_cases import frame_pairs
from ..scenes.textures import load_textures
from ..training.runlog import result_of
from .notebook import Workbook, require
from .scorecard import VARIANTS
from .settings import ScoreSettings
from .showcase import named, own_first

SHARP = "sharp"  # comes with the package, and is scored beside the model
NO_MODEL = "none"  # as resume: the baselines alone
IDENTITY_PAIRS = 4  # pairs of given frames, and worlds of a kind, of the identity tests
IDENTITY_GAP = 4


def scored_clips(settings: ScoreSettings) -> list[Clip]:
    """The clips of a data set at every size, at most `video_limit` of each split, one's own first; what is left out is printed.

    A size that 01_data did not prepare is prepared here.

    Raises:
        MissingInputError, ClipError, ConfigError, VideoError: see `ready_dataset`.
    """
    clips: list[Clip] = []
    for size in settings.sizes:
        data = ready_dataset(settings.dataset, size)
        for split in SPLITS:
            part = own_first(data.split(split))
            long = [clip for clip in part if len(clip) > min(settings.gaps)]
            kept = long[: settings.video_limit or None]
            clips += kept + [clip for clip in part if clip not in long]  # of what is too short the benchmark says so
            if len(long) > len(kept):
                print(f"{size} px, {split}: left out, as video_limit is {settings.video_limit}: {named(long[len(kept) :])}")
    return clips


def scored_methods(settings: ScoreSettings, book: Workbook) -> dict[str, Method]:
    """The baselines, the model, the sharp one that comes along, a user's method, another program's frames, and other ways to use the model.

    Raises:
        MissingInputError: no checkpoint, folder or file. ConfigError: a method that cannot be loaded, or two of one name.
        CheckpointError: the checkpoint cannot be read.
    """
    added: list[tuple[str, Method]] = []
    ways: list[tuple[str, Method]] = []
    if settings.resume != NO_MODEL:
        checkpoint, device = require(settings.resume or result_of(book.folder / "flow"), "03_train_flow"), str(book.device)
        model = ModelMethod(checkpoint, device)
        added.append(("model", model))
        if model.model.flow_trained:
            ways.append((f"{VARIANTS}no flow", ModelMethod(checkpoint, device, use_flow=False)))
        if model.model.flow_trained and not model.sharp:
            ways.append((f"{VARIANTS}published", ModelMethod(checkpoint, device, semantics="published", use_flow=True)))
        if SHARP in shipped() and not model.sharp:
            added.append((SHARP, ModelMethod(SHARP, device)))
    if settings.method:
        added.append((settings.method.rpartition(":")[2], load_user_method(settings.method)))
    if settings.frames:
        added.append((Path(settings.frames).name, FrameFolderMethod(settings.frames)))
    together = [*baselines().items(), *added, *ways]
    names = [name for name, _ in together]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ConfigError(f"Two methods are called {twice[0]!r}: rename the function or the folder.")
    return dict(together)


def on_scenes(methods: Mapping[str, Method]) -> dict[str, Method]:
    """The methods that can be asked about any two frames: all but folders of frames that were made before."""
    return {name: method for name, method in methods.items() if not isinstance(method, FrameFolderMethod)}


def models_of(methods: Mapping[str, Method]) -> dict[str, ModelMethod]:
    """The models among the methods, each checkpoint once."""
    return {name: method for name, method in methods.items() if isinstance(method, ModelMethod) and not name.startswith(VARIANTS)}


def identity(settings: ScoreSettings, clips: Sequence[Clip], methods: Mapping[str, Method]) -> tuple[pd.DataFrame, list[str]]:
    """The identity tests of every method that takes any moment, and a sentence for each one that failed in them.

    Frame pairs come from the test clips at the first size, and for a model from worlds too, where `worlds` is not 0.
    """
    size = settings.sizes[0]
    pairs = identity_pairs([clip for clip in clips if clip.size == size])
    if not pairs:
        return pd.DataFrame(columns=COLUMNS), [f"No identity tests: no clip has two frames {IDENTITY_GAP} apart within a shot."]
    scenes, tables, failed = {}, [], []
    if settings.worlds:
        textures = load_textures(split="test")
        scenes = {f"{kind}_only": frame_pairs(kind, IDENTITY_PAIRS, size, settings.seed, textures) for kind in ("camera", "objects")}
    for name, method in methods.items():
        if not isinstance(method, PairMethod | ModelMethod):
            continue
        more = {"model": method.model, **scenes} if name in models_of(methods) else {}
        try:
            tables.append(identity_tests(name, method, pairs, **more))
        except (Exception, SystemExit) as error:  # a user's function may fail in any way at t = 0 or 1, and that must not end the report
            failed.append(f"{name} has no identity tests: {error if isinstance(error, Vae4dError) else repr(error)}")
    return pd.concat(tables, ignore_index=True), failed


def identity_pairs(clips: Sequence[Clip]) -> list[FramePair]:
    """At most `IDENTITY_PAIRS` pairs of given frames within shots, spread over the test clips (over all where there is no test clip)."""
    found = []
    for clip in [clip for clip in clips if clip.split == "test"] or clips:
        try:
            found += [(clip, pair.start) for pair in pairs_of(clip, IDENTITY_GAP) if not pair.cut]
        except ClipError:
            continue
    places = np.unique(np.linspace(0, len(found) - 1, min(IDENTITY_PAIRS, len(found))).round().astype(int))
    return [(clip.tensor(start), clip.tensor(start + IDENTITY_GAP)) for clip, start in (found[i] for i in places)]
