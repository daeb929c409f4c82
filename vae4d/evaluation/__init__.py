"""How synthesised frames are measured beside baselines, on the same pairs (rules: docs/evaluation.md).

    methods         what a method is: repeat, blend, a model, a user's function; `baselines`; `checked`
    optical_flow    Farneback and DIS warp; minterpolate the same for ffmpeg's filter
    frame_folders   frames made by any other program, and the given frames exported for it
    pairs           which frames are given and which are scored; scoring scores one method on one clip
    statistics      means, and paired differences with intervals
    identity        what must hold without a truth; leaks: footage that two splits share
    benchmark       the whole measurement, in `units` of work spread over `processes`, with its `record`; command is its command line
"""
