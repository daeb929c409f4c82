"""What the trainings of both families share.

    runlog.py    the folder of a run: losses, options, the newest and the best checkpoint
    stop.py      an interrupt becomes a stop between two steps
    result.py    what a call of a training did
"""
