"""Procedural 4D scenes with exact truth.

    camera.py        pinhole cameras: rays, projection, motion in the camera's own frame
    textures.py      photographs as textures, low-passed in advance (`load_textures`)
    world.py         the tensors of a batch of worlds; trajectories
    options.py       what worlds to draw (`WorldOptions`), and the numbers they are drawn from
    layout.py        where things stand, their shapes and surfaces
    trajectories.py  how camera and objects move, scaled to a motion in the picture
    generate.py      worlds from seeds (`generate`)
    intersect.py     where rays meet primitives
    render.py        pictures, depth, ids (`render`)
    truth.py         flow, visibility and scene flow between two views (`motion`)
    clips.py         training windows
    collage.py       cheaper training samples: photographs on planes, whole batches at once (`collage.draw`)

Conventions: axes as OpenCV (x right, y down, z forward), in the world and in the camera. Poses map camera to world. The centre of
the upper left pixel is (0.5, 0.5). Depth is z along the optical axis, in world units. Flow is in pixels (x right, y down).
Time is a real number; a clip spans 0 to 1.

    textures = load_textures(split="train")
    world = generate(range(16), WorldOptions(), textures)
    a, b = (render(world, world.camera(t, 128), t) for t in (0.0, 1.0))
    a.image, a.depth, a.ids, motion(world, a, b).flow, motion(world, a, b).visible
"""

from .camera import Camera
from .generate import generate
from .options import WorldOptions
from .render import View, render
from .textures import load_textures
from .truth import Motion, motion
from .world import World

__all__ = ["Camera", "Motion", "View", "World", "WorldOptions", "generate", "load_textures", "motion", "render"]
