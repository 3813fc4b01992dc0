"""The objectives, as pure functions of tensors.

With s = beta * (log pi(y|x) - log mu(y|x)) and w = softmax(r / alpha) over a prompt's K responses:

| function             | loss of one prompt or row                                          | source            |
|----------------------|--------------------------------------------------------------------|-------------------|
| `info_nca_loss`      | -sum_i w_i log softmax(s)_i                                        | 2402.05369        |
| `nca_loss`           | -sum_i w_i log sigma(s_i) - 1/K sum_i log sigma(-s_i)              | 2402.05369        |
| `dpo_loss`           | -log sigma(s_w - s_l)                                              | 2305.18290, eq. 7 |
| `pairwise_nca_loss`  | -log sigma(s_w) - 1/2 log sigma(-s_w) - 1/2 log sigma(-s_l)        | 2402.05369        |
| `biased_nca_loss`    | -log sigma(s_w) - log sigma(-s_l)                                  | 2402.05369, code  |
| `spin_loss`          | -log sigma(s_w - s_l), mu the opponent                             | 2401.01335        |
| `spin_hinge_loss`    | max(0, 1 - (s_w - s_l)), mu the opponent                           | 2401.01335, code  |
| `self_contrast_loss` | -1/k sum_j log sigma(s_target - s_j)                               | 2404.00604        |
| `cut_loss`           | L1 + L2: likelihood, and unlikelihood of flagged tokens            | 2312.14591v4      |
| `nll_loss`           | -1/N sum_t log p_t                                                 | 2312.14591v4, L2  |
"""

from rayalign.losses.cut import cut_loss, flagged_tokens
from rayalign.losses.likelihood import nll_loss
from rayalign.losses.nca import info_nca_loss, nca_loss
from rayalign.losses.output import LossOutput
from rayalign.losses.pairwise import (
    biased_nca_loss,
    dpo_loss,
    pairwise_nca_loss,
    self_contrast_loss,
    spin_hinge_loss,
    spin_loss,
)

__all__ = [
    "LossOutput",
    "biased_nca_loss",
    "cut_loss",
    "dpo_loss",
    "flagged_tokens",
    "info_nca_loss",
    "nca_loss",
    "nll_loss",
    "pairwise_nca_loss",
    "self_contrast_loss",
    "spin_hinge_loss",
    "spin_loss",
]
