"""One switch between the published system and the repaired one, and one flag for every row of the defect table.

The table is section 6 of docs/original-system.md. An option `semantics` is a text everywhere: "repaired" (the default), "published",
or one of them with rows changed: "published+1+5" is published with rows 1 and 5 repaired, "repaired-4" is repaired but for row 4.
Repairs add no parameter and change no checkpoint key.
"""

from __future__ import annotations

import re
from dataclasses import astuple, dataclass, fields, replace

from ..errors import ConfigError


@dataclass(frozen=True)
class Repairs:
    """Which rows of the defect table are repaired; the fields stand in the table's order."""

    middle_target: bool = True  # 1: the flow stage's perceptual loss of a middle frame compares with it, not with the end frame
    direct_loss: bool = True  # 2: the loss is taken on the interpolated code, which is not flow-warped once more with the target in view
    pose_as_used: bool = True  # 3: the flow stage carries codes by t * pose(start, end) at any t, as synthesis does
    target_grid: bool = True  # 4: flow is estimated on the target view's grid, not on the end view's
    both_ends: bool = True  # 5: both ends are carried to t and fused; published, the start alone gives voxels
    correction: bool = True  # 6: flow_correction is used as it was trained; published, it is off at interpolation time
    keep_best: bool = True  # 7: the flow stage keeps its best checkpoint by validation; published, it never writes one
    own_splits: bool = True  # 8: splits share no video, cleaning never touches test; published, windows span cuts and repeats as well
    true_metrics: bool = True  # 9: only synthesised frames are scored, lossless, and nothing is dropped (docs/evaluation.md)
    centre_crop: bool = True  # 10: frames are cropped to a square, not squashed
    camera_poses: bool = True  # 11: world-to-camera matrices are inverted before they count as camera poses

    def __str__(self) -> str:
        """The shortest text that `parse` turns into this."""
        done = [number for number, value in enumerate(astuple(self), 1) if value]
        missing = [number for number, value in enumerate(astuple(self), 1) if not value]
        if len(done) < len(missing):
            return "published" + "".join(f"+{number}" for number in done)
        return "repaired" + "".join(f"-{number}" for number in missing)

    @property
    def preparation(self) -> dict[str, bool]:
        """Rows 10 and 8 as `open_dataset` and `prepare_dataset` take them: how frames become square, and what a split is."""
        return {"squash": not self.centre_crop, "own_splits": self.own_splits}

    @classmethod
    def parse(cls, semantics: str | Repairs) -> Repairs:
        """The flags of an option `semantics`.

        Raises:
            ConfigError: neither "published" nor "repaired" with rows of the table.
        """
        if isinstance(semantics, cls):
            return semantics
        names = [field.name for field in fields(cls)]
        text = re.sub(r"\s", "", str(semantics))
        found = re.fullmatch(r"published((?:\+\d+)*)|repaired((?:-\d+)*)", text)
        rows = [int(number) for number in re.findall(r"\d+", text)]
        if not found or any(not 1 <= row <= len(names) for row in rows):
            raise ConfigError(
                f"semantics is {semantics!r}: give 'repaired' or 'published', or one of them with rows of the defect table, "
                f"1 to {len(names)}, such as 'published+1+5' or 'repaired-4'."
            )
        start = text.startswith("repaired")
        return replace(cls(*[start] * len(names)), **{names[row - 1]: not start for row in rows})


REPAIRED, PUBLISHED = Repairs(), Repairs.parse("published")
