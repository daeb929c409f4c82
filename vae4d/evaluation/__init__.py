"""How synthesised frames are measured beside baselines, and estimates beside the truth (rules: docs/evaluation.md).

    methods         what a method is: repeat, blend, a model, a user's function; `baselines`; `checked`
    optical_flow    Farneback and DIS warp; minterpolate the same for ffmpeg's filter
    frame_folders   frames made by any other program, and the given frames exported for it
    pairs           which frames are given and which are scored; scoring scores one method on one clip
    statistics      means, and paired differences with intervals
    leaks           footage that two splits share; identity what must hold without a truth
    benchmark       the whole measurement, in `units` of work spread over `processes`, with its `record`
    command         its command line
    estimates       what a method says of flow, depth and pose, and the views that it makes of a new camera; faithful_estimates and
                    sharp_estimates how the two families are read
    scene_cases     procedural worlds as test cases; scene_metrics errors against their truth; scene_measures which are taken
    scene_truth     the measurement on those worlds, with scene_summary's means and intervals
    published       scores of predicted videos as the published system made them, and without its defect; predicted finds the videos,
                    pose_scores scores camera paths by pose_errors; score_command their command line
    report          one page that stands alone (its sections are made in `workbook`)
"""
