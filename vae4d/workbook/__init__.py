"""What runs and serves the notebooks.

    notebook   what every notebook starts and ends with
    settings   their options; profiles sets of parameters; runner runs them in order
    showcase   videos and moments of a trained model; reports tables and sentences from measured numbers
    moments    one moment as the models see it, beside the truth; opening the pictures at the top of the README
    published  the published system's interpolation job, and its scores beside the repaired ones
    lineup     what 05_evaluate measures; sheet shows pieces of its report and keeps them for the page (`evaluation.report`);
               pages writes one without a notebook
    verdicts   sentences by fixed rules; scorecard and strips for video, scenecard and scenepictures for procedural worlds;
               provenance what the figures hang on
"""

from .notebook import Workbook, display, require, start

__all__ = ["Workbook", "display", "require", "start"]
