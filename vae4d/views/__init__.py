"""Views: plain functions from data (numpy or torch) to a Figure. `views.save(fig, path)` writes one as a PNG.

frames.py draws frames, clips and image flow, regions.py boxes on them, volumes.py codes and voxel flow, moments.py what the sharp model
says of a moment (depth, motion, whose pixels), attention.py what one of its pixels hangs on, space.py its voxels in 3D (optional),
charts.py curves and camera paths, scores.py methods with their intervals, truth.py estimates beside the truth of procedural worlds,
worlds.py that truth alone; tables.py knows the metrics' names and directions, figures.py has the style and the checks that they share.
What is to be compared shares one scale.
"""

from .attention import pixel_attention
from .charts import camera_path, loss_curves, training_tables
from .figures import save
from .frames import comparison_strip, frame_differences, frame_strip, image_flow, shot_timeline
from .moments import density_planes, density_projections, inverse_depths, moment_strip, share_maps
from .regions import regions
from .scores import error_histogram, interval_chart
from .space import save_space, voxel_space
from .truth import flow_and_depth, masked_views, pose_comparison
from .volumes import code_projections, code_slices, voxel_flow_arrows, voxel_flow_projections, voxel_flow_slices
from .worlds import world_truth

__all__ = [
    "camera_path",
    "code_projections",
    "code_slices",
    "comparison_strip",
    "density_planes",
    "density_projections",
    "error_histogram",
    "flow_and_depth",
    "frame_differences",
    "frame_strip",
    "image_flow",
    "interval_chart",
    "inverse_depths",
    "loss_curves",
    "masked_views",
    "moment_strip",
    "pixel_attention",
    "pose_comparison",
    "regions",
    "save",
    "save_space",
    "share_maps",
    "shot_timeline",
    "training_tables",
    "voxel_flow_arrows",
    "voxel_flow_projections",
    "voxel_flow_slices",
    "voxel_space",
    "world_truth",
]
