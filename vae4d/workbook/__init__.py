"""What runs and serves the notebooks.

    notebook   what every notebook starts and ends with
    settings   their options; profiles sets of parameters; runner runs them in order
    showcase   videos and moments of a trained model; reports tables and sentences from measured numbers
"""

from .notebook import Workbook, display, require, start

__all__ = ["Workbook", "display", "require", "start"]
