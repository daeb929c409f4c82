"""Exercises of notebook 07: a question, an answer that is computed, and a verdict on the reader's answer.

A box is (top, left, height, width) in pixels. Motion (2, H, W) in pixels, x right and y down. Depth (H, W), far is large.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from .tour import Parts
from .trials import Trial

Box = tuple[int, int, int, int]
DIRECTIONS = {"right": (1, 0), "left": (-1, 0), "down": (0, 1), "up": (0, -1)}
STILL = 0.1  # px: a shorter mean motion goes nowhere
APART = math.radians(60)  # between an answer and the mean motion, at most
ALIKE = 1.02  # ratio of depths up to which neither is nearer
NEAR_ENOUGH = 0.2  # of a share
WORST = 3  # boxes with the largest errors that are right answers
GAPS = (1, 2, 4, 8, 16, 32)


@dataclass(frozen=True)
class Exercise:
    """A question whose answer is known.

    Args:
        judge: whether an answer is right; raises one of the errors that `verdict` catches for what is no answer at all.
        wrong: an answer that is not right, to prove the judge.
    """

    question: str
    form: str  # what an answer looks like
    judge: Callable[[Any], bool]
    solution: Any
    wrong: Any
    why: str | Callable[[], str]

    def verdict(self, answer: Any) -> str:
        """ "open" (None or ...), "unreadable", "right" or "wrong"."""
        if answer is None or answer is ...:
            return "open"
        try:
            return "right" if self.judge(answer) else "wrong"
        except (TypeError, ValueError, KeyError, IndexError, OverflowError):
            return "unreadable"

    def check(self, answer: Any, reveal: bool = False) -> str:
        """Print the verdict, with what is true where an answer was given, and return it. Nothing that is answered raises.

        Args:
            reveal: tell the solution of an open question too.
        """
        found = self.verdict(answer)
        said = {
            "open": f"Not answered yet. Put {self.form} after `answer =` and run the cell again.",
            "unreadable": f"{answer!r} is not an answer to this: give {self.form}.",
            "right": f"Right: {answer!r}.",
            "wrong": f"Not right: {answer!r}. It is {self.solution!r}.",
        }
        print(self.question, said[found], sep="\n")
        if found == "open" and reveal:
            print(f"The solution: {self.solution!r}.")
        if found in ("right", "wrong") or (found == "open" and reveal):
            print(self.why() if callable(self.why) else self.why)
        return found

    def proof(self) -> dict[str, str]:
        """What the judge says of the solution, of a wrong answer, and of none."""
        return {"solution": self.verdict(self.solution), "wrong answer": self.verdict(self.wrong), "no answer": self.verdict(None)}


def grid(height: int, width: int, count: int = 4) -> dict[tuple[int, int], Box]:
    """count x count boxes of one size by (row, column), from the upper left; what is left over at the border belongs to none."""
    tall, wide = height // count, width // count
    return {(i, j): (i * tall, j * wide, tall, wide) for i in range(count) for j in range(count)}


def inside(values: Tensor, box: Box) -> Tensor:
    """The part (..., h, w) of a map (..., H, W) within a box."""
    top, left, tall, wide = box
    return values[..., top : top + tall, left : left + wide]


def liveliest(motion: Tensor) -> Box:
    """The box, of a quarter of the picture's side, whose mean motion is longest."""
    height, width = motion.shape[-2:]
    tall, wide = height // 4, width // 4
    means = F.avg_pool2d(motion[None].float(), (tall, wide), (max(1, tall // 2), max(1, wide // 2)))[0].norm(dim=0)
    place = int(means.argmax())
    return place // means.shape[1] * max(1, tall // 2), place % means.shape[1] * max(1, wide // 2), tall, wide


def near_and_far(depth: Tensor) -> dict[str, Box]:
    """The nearest and the farthest box of a 4 x 4 grid, by their medians: "A" is the one further left, or above."""
    boxes = sorted(grid(*depth.shape).values(), key=lambda box: float(inside(depth, box).median()))
    first, second = sorted((boxes[0], boxes[-1]), key=lambda box: (box[1], box[0]))
    return {"A": first, "B": second}


def direction(motion: Tensor, box: Box) -> Exercise:
    """Which way does what is in the box move?"""
    x, y = inside(motion, box).double().mean((1, 2)).tolist()
    length = math.hypot(x, y)
    still = length < STILL

    def judge(answer: str) -> bool:
        if answer == "nowhere":
            return still
        across, down = DIRECTIONS[answer]
        return not still and math.acos(max(-1.0, min(1.0, (x * across + y * down) / length))) <= APART

    best = "nowhere" if still else max(DIRECTIONS, key=lambda name: x * DIRECTIONS[name][0] + y * DIRECTIONS[name][1])
    other = "left" if still else "nowhere"
    across, along = "left" if x < 0 else "right", "up" if y < 0 else "down"
    why = f"The mean motion in box X is {abs(x):.2f} px to the {across} and {abs(y):.2f} px {along}."
    question = "In which direction does box X move, from the first frame to the second?"
    return Exercise(question, "one of 'left', 'right', 'up', 'down', 'nowhere'", judge, best, other, why)


def nearer_of(depth: Tensor, boxes: Mapping[str, Box]) -> tuple[str, dict[str, float]]:
    """The name of the nearer box, "neither" where they are alike, and the medians of depth."""
    medians = {name: float(inside(depth, box).median()) for name, box in boxes.items()}
    near, far = sorted(medians, key=medians.__getitem__)
    return ("neither" if medians[far] <= ALIKE * medians[near] else near), medians


def nearer(
    clip_depth: Tensor, clip_boxes: Mapping[str, Box], true_depth: Tensor, model_depth: Tensor, boxes: Mapping[str, Box]
) -> Exercise:
    """Which of two boxes is nearer: in the clip by what the model says, in the world by what is true."""
    clip, of_clip = nearer_of(clip_depth, clip_boxes)
    world, of_world = nearer_of(true_depth, boxes)
    believed, of_model = nearer_of(model_depth, boxes)

    def judge(answer: Sequence[str]) -> bool:
        one, two = answer
        if {one, two} - {"A", "B", "neither"}:
            raise ValueError(answer)
        return (one, two) == (clip, world)

    swapped = {"A": "B", "B": "A", "neither": "A"}
    why = (
        f"Clip, by the model alone: depth {of_clip['A']:.2f} at A, {of_clip['B']:.2f} at B. World, true: {of_world['A']:.2f} at A, "
        f"{of_world['B']:.2f} at B. The model says {of_model['A']:.2f} and {of_model['B']:.2f} in its own unit, so {believed!r}: "
        f"it {'agrees with' if believed == world else 'contradicts'} the truth."
    )
    question = "Which box is nearer, A or B: in the clip, and in the world?"
    return Exercise(question, "two of 'A', 'B', 'neither', such as ['A', 'B']", judge, [clip, world], [swapped[clip], world], why)


def camera_shares(true: Mapping[str, Parts], model: Mapping[str, Parts]) -> Exercise:
    """What share of the motion is the camera's, in two worlds?"""
    shares = {name: parts.share for name, parts in true.items()}

    def judge(answer: Sequence[float]) -> bool:
        if len(answer) != len(shares) or not all(0 <= float(part) <= 1 for part in answer):
            raise ValueError(answer)
        pairs = zip(map(float, answer), shares.values(), strict=True)
        return all(math.isnan(share) or abs(part - share) <= NEAR_ENOUGH for part, share in pairs)  # where nothing moves every one is right

    solution = [0.5 if math.isnan(share) else round(share, 3) for share in shares.values()]
    wrong = [1 - share if abs(share - 0.5) > NEAR_ENOUGH else 0.0 for share in solution]
    told = "; ".join(f"{name}: truth {shares[name]:.0%}, the model says {parts.share:.0%}" for name, parts in model.items())
    question = f"What share of the motion is the camera's, in {' and in '.join(shares)}?"
    form = f"{len(shares)} shares from 0 to 1, such as [0.2, 0.7]"
    return Exercise(question, form, judge, solution, wrong, f"The camera's share. {told}.")


def largest_error(error: Tensor, hint: Tensor) -> Exercise:
    """In which box of a 4 x 4 grid is the error largest? The hint (H, W) is where the model itself is unsure."""
    boxes = grid(*error.shape)
    means = {place: float(inside(error, box).double().mean()) for place, box in boxes.items()}
    order = sorted(means, key=means.__getitem__, reverse=True)
    by_hint = max(boxes, key=lambda place: float(inside(hint, boxes[place]).double().mean()))

    def judge(answer: Sequence[int]) -> bool:
        row, column = answer
        return means[int(row), int(column)] >= means[order[WORST - 1]]

    where = hint.flatten().argsort(descending=True)[: max(1, hint.numel() // 10)]
    held = float(error.flatten()[where].double().sum() / error.double().sum().clamp_min(1e-12))
    worst = order[:WORST]
    hit = "one" if by_hint in worst else "none"
    why = (
        f"The {WORST} worst boxes (row, column) are {', '.join(map(str, worst))}, with mean errors of "
        f"{', '.join(f'{means[place]:.1f}' for place in worst)} grey levels; the best has {means[order[-1]]:.1f}. "
        f"The model's own hint is largest in {by_hint}, which is {hit} of them; the tenth of the picture that it hints at most holds "
        f"{held:.0%} of the whole error."
    )
    question = "In which box will the picture halfway be worst?"
    form = "row and column of a box, each from 0 to 3, such as [1, 2]"
    return Exercise(question, form, judge, list(order[0]), list(order[-1]), why)


def failing_gap(trial: Callable[[int], Trial]) -> Exercise:
    """At which gap does the model fail? `trial` scores it at one."""
    known: dict[int, Trial] = {}

    def at(gap: int) -> Trial:
        if gap not in known:
            known[gap] = trial(gap)
        return known[gap]

    failing = next((gap for gap in GAPS if at(gap).failed), 0)

    def judge(answer: int) -> bool:
        if isinstance(answer, bool) or int(answer) != answer or not 0 <= answer <= GAPS[-1]:
            raise ValueError(answer)
        return at(int(answer)).failed if answer else not failing

    def why() -> str:
        return "\n".join(f"{one}{' <- fails' if one.failed else ''}" for _, one in sorted(known.items()))

    question = "At which gap, in frames of the world, is the model worse than linear blend, or its flow off by more than 2 px on average?"
    form = f"a whole number from 1 to {GAPS[-1]}, or 0 if it fails at none"
    return Exercise(question, form, judge, failing, 0 if failing else GAPS[0], why)
