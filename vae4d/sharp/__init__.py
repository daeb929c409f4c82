"""The sharp 4D Video Autoencoder: two frames' volume moves their pixels instead of repainting them.

    model.py      the diagram, and the interface that it shares with the faithful model
    features.py   convolutions, warps, the encoder of a frame
    matching.py   the picture's motion, coarse to fine
    subpixel.py   the same below a cell, by the pictures' gradients
    camera.py     the camera's motion: twists, the search for one, where it moves a pixel of given depth
    geometry.py   a first depth, and what stands still
    volume.py     planes of inverse depth: density and residual flow of voxels, seen from a camera
    fusion.py     both frames' pixels, and what the voxels decode where no pixel is right
    tiles.py      large frames, without a seam
    losses.py     what it learns from
    samples.py    the scenes and videos that it is trained on
    training.py   a training run, in pieces that resume
"""
