"""Speed and memory, as figures printed by one command (`make bench`).

    run.py      all of it, a line each
    flow.py     the published flow stage against its naive form
    sharp.py    the sharp model: a frame, bfloat16, tiles
"""
