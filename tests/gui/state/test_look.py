from __future__ import annotations

from napari_llm4seg.config import BackboneConfig, Card, CheckpointConfig, ModelConfig, PreprocessConfig
from napari_llm4seg.gui.state.look import Look, look_of_model, unlike


def config(backbone=None, **preprocess):
    model = ModelConfig(backbone=BackboneConfig.model_validate(backbone or {}))
    return CheckpointConfig(model=model, preprocess=PreprocessConfig(**preprocess), card=Card(name="made"))


def test_a_model_s_look_follows_from_its_preprocessing():
    assert look_of_model(config(mean=(0.3,), sd=(0.2,))) == Look(False, False, False, (0.3, 0.3, 0.3))
    colours = {"mean": (0.2, 0.3, 0.5), "sd": (0.2,) * 3}
    assert look_of_model(config({"in_channels": 3}, channels="rgb", **colours)).mean == (0.2, 0.3, 0.5)
    assert look_of_model(config({"in_channels": 3}, channels="bgr", **colours)).mean == (0.5, 0.3, 0.2)
    ct = look_of_model(config(intensity="window", window=(-175, 250)))
    assert ct.signed
    assert look_of_model(config({"kind": "unet", "spatial_dims": 3}, patch=(16, 16, 16))) == Look(
        True, False, False, None, (16, 16, 16)
    )


def test_kinds_that_differ_weigh_more_than_any_colour():
    skin = Look(False, True, False, (0.7, 0.6, 0.55))
    polyp = Look(False, True, False, (0.55, 0.32, 0.23))
    grey = Look(False, False, False, (0.33, 0.33, 0.33))
    brain = Look(True, False, False)
    mole = Look(False, True, False, (0.65, 0.5, 0.5))
    assert min((skin, polyp, grey, brain), key=lambda look: unlike(mole, look)) is skin
    gut = Look(False, True, False, (0.5, 0.25, 0.2))
    assert min((skin, polyp, grey, brain), key=lambda look: unlike(gut, look)) is polyp
    dark = Look(False, False, False, (0.1, 0.1, 0.1))
    assert min((skin, polyp, grey, brain), key=lambda look: unlike(dark, look)) is grey
    stack = Look(True, False, False, (0.1, 0.1, 0.1))
    assert min((skin, polyp, grey, brain), key=lambda look: unlike(stack, look)) is brain
    assert min((skin, polyp, grey), key=lambda look: unlike(stack, look)) is grey
    assert unlike(grey, grey) == (0, 0.0)


def test_a_stack_far_larger_than_a_patch_is_for_no_model_of_crops():
    crops = Look(True, False, False, grid=(32, 48, 32))
    grey = Look(False, False, False, (0.3,) * 3)
    near = Look(True, False, False, (0.1,) * 3, (35, 50, 36))
    far = Look(True, False, False, (0.1,) * 3, (100, 512, 512))
    assert min((crops, grey), key=lambda look: unlike(near, look)) is crops
    assert min((crops, grey), key=lambda look: unlike(far, look)) is grey
