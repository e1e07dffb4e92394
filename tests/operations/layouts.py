"""The arguments of a recurrence with other strides, differentiably: same values, other places in memory."""

import torch
from torch.nn import functional as F

NAMES = ("q", "k", "v", "g", "beta", "c", "b", "x", "dt")  # of shape [B, T, H, ...]


def names_of(tensors):
    """Return those of the arguments that have a place in a projection."""
    return [name for name in NAMES if name in tensors]


def of_one_projection(tensors):
    """Slices of one tensor ``[B, T, all features]`` for each type, as a layer's projection leaves them."""
    laid_out = dict(tensors)
    for dtype in {tensors[name].dtype for name in names_of(tensors)}:
        names = [name for name in names_of(tensors) if tensors[name].dtype == dtype]
        flat = [tensors[name].flatten(2) for name in names]
        slices = torch.cat(flat, -1).split([x.shape[-1] for x in flat], -1)
        laid_out |= {name: piece.unflatten(-1, tensors[name].shape[2:]) for name, piece in zip(names, slices)}
    return laid_out


def between_nan(tensors, margin=8):
    """The middle of tensors that are NaN around it in every dimension, by ``margin`` in the last one."""
    inside = {}
    for name in names_of(tensors):
        around = F.pad(tensors[name], (margin, margin) + (1, 1) * (tensors[name].ndim - 1), value=torch.nan)
        inside[name] = around[(*(slice(1, -1) for _ in around.shape[1:]), slice(margin, -margin))]
    return tensors | inside


def unaligned(tensors):
    """`between_nan` where no row begins at a multiple of 16 bytes, so that no copy engine can fetch it."""
    return between_nan(tensors, margin=1)


def heads_first(tensors):
    """``[B, H, T, D]`` in memory."""
    return tensors | {name: tensors[name].transpose(1, 2).contiguous().transpose(1, 2) for name in names_of(tensors)}


ALL = (of_one_projection, between_nan, unaligned, heads_first)
