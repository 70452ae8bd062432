"""Which module of nnU-Net's networks is which of ours (`networks/nnunet.py`), by name and in nnU-Net's order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from delineate.networks.nnunet import decoder_convolutions, encoder_convolutions
from delineate.planning import NetworkPlan

Role = Literal["convolution", "up", "head"]


@dataclass(frozen=True, slots=True)
class Counterpart:
    """`ours` and `theirs` are prefixes of names in the two state dicts, without a full stop at the end.

    A "convolution" is one with its normalisation. nnU-Net has a bias in it if its plans say so, unless `biased` is
    False; ours has none. An "up" is a transposed convolution, a "head" a 1x1x1 convolution that gives logits.
    """

    ours: str
    theirs: str
    role: Role
    biased: bool = True


def counterparts(network: NetworkPlan) -> tuple[Counterpart, ...]:
    """All modules with weights of an "nnunet" or "nnunet_res" network, each once.

    nnU-Net lists the encoder's a second time, as "decoder.encoder.", and those of a convolution with its normalisation
    a second time, as "all_modules.0" and "all_modules.1".
    """
    encoder = _residual_encoder(network) if network.architecture == "nnunet_res" else _plain_encoder(network)
    return (*encoder, *_decoder(network))


def _plain_encoder(network: NetworkPlan) -> Iterator[Counterpart]:
    for level, count in enumerate(encoder_convolutions(network)):
        for n in range(count):
            yield Counterpart(f"encoder.levels.{level}.{n}", f"encoder.stages.{level}.0.convs.{n}", "convolution")


def _residual_encoder(network: NetworkPlan) -> Iterator[Counterpart]:
    yield Counterpart("encoder.stem.0", "encoder.stem.convs.0", "convolution")
    before = network.features[0]
    for level, count in enumerate(encoder_convolutions(network)):
        for n in range(count):
            ours, theirs = f"encoder.levels.{level}.{n}", f"encoder.stages.{level}.blocks.{n}"
            yield Counterpart(f"{ours}.conv1", f"{theirs}.conv1", "convolution")
            yield Counterpart(f"{ours}.conv2", f"{theirs}.conv2", "convolution")
            if before != network.features[level]:
                pooled = n == 0 and max(network.strides[level]) > 1  # the pooling before it takes number 0
                yield Counterpart(f"{ours}.project", f"{theirs}.skip.{int(pooled)}", "convolution", biased=False)
            before = network.features[level]


def _decoder(network: NetworkPlan) -> Iterator[Counterpart]:
    for step, count in enumerate(reversed(decoder_convolutions(network))):  # from the lowest resolution to the highest
        yield Counterpart(f"decoder.ups.{step}", f"decoder.transpconvs.{step}", "up")
        for n in range(count):
            yield Counterpart(f"decoder.levels.{step}.{n}", f"decoder.stages.{step}.convs.{n}", "convolution")
        yield Counterpart(f"decoder.heads.{step}", f"decoder.seg_layers.{step}", "head")
