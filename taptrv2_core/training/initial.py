"""Where training starts: from scratch, with a network that already follows its attention, or from weights."""

from __future__ import annotations

from dataclasses import asdict, replace

import torch
from torch import nn

from taptrv2_core.checkpoint import load_model
from taptrv2_core.config import ModelConfig
from taptrv2_core.model import Taptr

RESIDUAL_SCALE = 0.2


def first_model(config: ModelConfig, init: str | None) -> Taptr:
    """What a run begins with, on the CPU; ``init``: weights to start from, a file or a shipped name.

    Raises:
        ValueError: the weights are of another network, or ``config`` is too small for `initialise`.
    """
    if init is None:
        model = Taptr(config)
        initialise(model)
        return model
    return _as_configured(load_model(init, "cpu").requires_grad_(True), config, init)


@torch.no_grad()
def initialise(model: Taptr) -> None:
    """Set the parameters so that every decoder layer begins as a soft arg-max over its samples.

    A query starts as the mean of its levels' features, queries and keys are compared as they are, the position update's
    weights are the softmax of the attention logits, and what layers add to the content is small. Features that match
    therefore move the position at once, in all layers; training takes it from there.

    Raises:
        ValueError: the network has fewer than 2 * K channels, which passing K signed logits through ReLUs needs.
    """
    channels, samples = model.config.channels, model.config.samples
    if channels < 2 * samples:
        raise ValueError(
            f"initialise: {channels} channels are too few: {2 * samples} (2 * heads * levels * points) are needed"
        )
    levels = model.config.levels
    eye = torch.eye(channels)
    model.transformer.query_feature_initializer.weight.copy_(eye.repeat(1, levels) / levels)
    model.transformer.query_feature_initializer.bias.zero_()
    nn.init.normal_(model.transformer.level_embed, std=0.1)
    decoder = model.transformer.decoder
    for layer in decoder.layers:
        attention = layer.cross_attn
        for projection in (attention.query_proj, attention.key_proj):
            projection.weight.copy_(eye)
            projection.bias.zero_()
        _pass_signed(layer.caupdate_weight_normalizer, layer.caupdate_weight_regressor[0], samples)
        for last in (attention.output_proj, layer.self_attn.out_proj, layer.temp_self_attn.out_proj, layer.linear2):
            last.weight.mul_(RESIDUAL_SCALE)
        layer.update_pos_embed_head.layers[-1].weight.mul_(RESIDUAL_SCALE)
    decoder.ref_point_head.layers[-1].weight.mul_(RESIDUAL_SCALE)
    for updater in (decoder.query_updater, model.query_between_window_updater):
        final = updater[-1]
        assert isinstance(final, nn.Linear)
        final.weight.mul_(RESIDUAL_SCALE)
    start_search(model)


def start_search(model: Taptr) -> None:
    """Let the search, if there is one, begin with the attention logits of the first decoder layer."""
    if model.search is not None:
        attention = model.transformer.decoder.layers[0].cross_attn
        model.search.start_from(attention.query_proj, attention.key_proj, model.config.heads)


def _pass_signed(normalizer: nn.Sequential, regressor: nn.Module, samples: int) -> None:
    """Make regressor(normalizer(x)) = x for signed x: positive and negative parts side by side through the ReLUs."""
    first, second = normalizer[0], normalizer[2]
    assert isinstance(first, nn.Linear)
    assert isinstance(second, nn.Linear)
    assert isinstance(regressor, nn.Linear)
    eye = torch.eye(samples)
    for layer in (first, second, regressor):
        layer.weight.mul_(0.1)
        layer.bias.zero_()
    first.weight[: 2 * samples] += torch.cat((eye, -eye))
    second.weight[: 2 * samples, : 2 * samples] += torch.eye(2 * samples)
    regressor.weight[:, : 2 * samples] += torch.cat((eye, -eye), dim=1)


def _as_configured(model: Taptr, config: ModelConfig, name: str) -> Taptr:
    """The model with what weights need not have: another ``motion``, and search and refiner that start untrained."""
    given = replace(model.config, motion=config.motion, search=config.search, refine=config.refine)
    if asdict(given) != asdict(config):
        raise ValueError(f"init {name!r}: {model.config} is not {config}")
    if (config.search, config.refine) == (model.config.search, model.config.refine):
        model.config = given
        return model
    extended = Taptr(config)
    extended.load_state_dict(model.state_dict(), strict=False)
    if not model.config.search:
        start_search(extended)
    extended.trained, extended.source = model.trained, model.source
    return extended
