"""The objectives, as pure functions of tensors."""

from rayalign.losses.nca import info_nca_loss, nca_loss
from rayalign.losses.output import LossOutput

__all__ = ["LossOutput", "info_nca_loss", "nca_loss"]
