"""Log-probabilities of given tokens, without ever holding a [tokens, vocabulary] tensor of a whole batch."""

from __future__ import annotations

import torch
from torch.utils.checkpoint import checkpoint


def token_logps(
    hidden_NH: torch.Tensor, targets_N: torch.Tensor, lm_head: torch.nn.Module, *, chunk_tokens: int = 1024
) -> torch.Tensor:
    """Log-probability of each target token given the hidden state that predicts it.

    Args:
        hidden_NH: hidden states of the N predicting positions.
        targets_N: the token that follows each of them.
        lm_head: maps [*, H] to logits [*, V].
        chunk_tokens: logits are made (and in backward remade) for this many positions at a time.

    Returns:
        [N] in float32, nats, at temperature 1.
    """
    if not len(targets_N):
        return hidden_NH.float().sum(-1)  # Empty, but in the graph: backward gives zeros instead of an error.
    chunks = zip(hidden_NH.split(chunk_tokens), targets_N.split(chunk_tokens), strict=True)
    remake = torch.is_grad_enabled() and len(targets_N) > chunk_tokens
    logps = [
        checkpoint(_chunk_logps, hidden, targets, lm_head, use_reentrant=False)
        if remake
        else _chunk_logps(hidden, targets, lm_head)
        for hidden, targets in chunks
    ]
    return torch.cat(logps)


def _chunk_logps(hidden_CH: torch.Tensor, targets_C: torch.Tensor, lm_head: torch.nn.Module) -> torch.Tensor:
    logits_CV = lm_head(hidden_CH).float()
    return logits_CV.gather(-1, targets_C[:, None])[:, 0] - logits_CV.logsumexp(-1)
