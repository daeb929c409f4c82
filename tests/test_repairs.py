"""The switch between published and repaired, row by row."""

from __future__ import annotations

from dataclasses import astuple, fields

import pytest
import torch
from golden_recipe import golden_clip, golden_model

from vae4d.errors import ConfigError
from vae4d.faithful.repairs import PUBLISHED, REPAIRED, Repairs


def test_the_two_ends_of_the_switch():
    assert all(astuple(REPAIRED)) and not any(astuple(PUBLISHED)) and len(fields(Repairs)) == 11
    assert Repairs.parse("repaired") == REPAIRED and Repairs.parse(" published ") == PUBLISHED and Repairs.parse(REPAIRED) is REPAIRED


@pytest.mark.parametrize(
    ("text", "rows"),
    [("published+1+5", {1, 5}), ("repaired-4", {*range(1, 12)} - {4}), ("repaired-1-2-3-4-5-6-7", {8, 9, 10, 11}), ("published+11", {11})],
)
def test_rows_are_numbered_as_in_the_table(text, rows):
    repairs = Repairs.parse(text)
    assert {number for number, value in enumerate(astuple(repairs), 1) if value} == rows
    assert Repairs.parse(str(repairs)) == repairs


def test_the_shortest_name_is_given():
    assert [str(Repairs.parse(text)) for text in ("published", "repaired", "published+1", "repaired-11", "repaired-1-2-3-4-5-6-7")] == [
        "published", "repaired", "published+1", "repaired-11", "published+8+9+10+11",
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["", "mended", "published-1", "repaired+1", "published+0", "published+12", "repaired-", "published+1,5"])
def test_other_texts_are_refused(text):
    with pytest.raises(ConfigError, match=r"semantics is .* rows of the defect table, 1 to 11, such as"):
        Repairs.parse(text)


@pytest.fixture(scope="module")
def model():
    """Poses and flows large enough that every row shows in the picture."""
    model = golden_model("small", scale_rotate=0.3, scale_translate=0.3)
    model.flow_trained = True
    return model


@torch.inference_mode()
def test_rows_4_5_and_6_each_change_the_picture_and_the_others_none(model):
    first, second = golden_clip()[:1], golden_clip()[3:]
    pictures = {text: model(first, second, 0.3, semantics=text).image for text in ("published", "repaired")}
    for row in range(1, 12):
        for start, sign in (("published", "+"), ("repaired", "-")):
            changed = (model(first, second, 0.3, semantics=f"{start}{sign}{row}").image - pictures[start]).abs().max()
            assert (changed > 1e-4) == (row in (4, 5, 6)), (start, row)


@torch.inference_mode()
def test_one_end_on_the_target_grid_is_the_start_carried_by_its_share_of_the_flow(model):
    """Row 4 repaired, row 5 published: code = S(p + t F), with S and E both in the view at t."""
    first, second = (model.encode(golden_clip()[i : i + 1]) for i in (0, 3))
    t = torch.tensor([[0.3]])
    out = model(first, second, 0.3, semantics="published+4")
    start = model.warp(first.code, t * model.pose(first.frame, second.frame))
    end = model.warp(second.code, (1 - t) * model.pose(second.frame, first.frame))
    flow = model.encoder_flow(start, end)
    torch.testing.assert_close(out.voxel_flow, flow)
    torch.testing.assert_close(out.codes[2], model.flow(start, 0.3 * flow))
