"""The published system's jobs over the test clips of a prepared data set.

    run.py        the modes: interpolate, reconstruct, views, pairs, trajectory; and the layout of what they write
    options.py    their options, and the model that they ask for
    folders.py    the folder of one clip, whole or absent
"""
