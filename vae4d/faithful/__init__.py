"""The faithful 4D Video Autoencoder: the published system rebuilt, with a switch for each of its defects.

    model.py                  the diagram, and the interface that it shares with the sharp model
    modules.py                its seven networks
    repairs.py                one switch between the published system and the repaired one, a flag for each defect
    stages.py                 the two training stages: what is learned, from which losses
    base_stage.py             the first: scene and pose encoder, rotate, decoder
    flow_stage.py             the second: flow encoder and flow correction
    losses.py                 what they learn from
    discriminator.py          the critic of the base stage
    train.py                  a training run, from options to a result
    train_config.py           its options
    loop.py                   its steps, validations and checkpoints
    naive.py                  the published flow stage and interpolation written out plainly
    original_checkpoint.py    checkpoints of the original system
"""
