"""Losses as pure functions of embeddings or scores; per-sample values, no weights, no reduction but where stated."""

import torch
import torch.nn.functional as F
from torch import Tensor


def bpr(positive_score: Tensor, negative_score: Tensor) -> Tensor:
    """Bayesian personalised ranking, `-log sigmoid(s+ - s-)` as a softplus.

    RecBole adds 1e-10 inside the logarithm, which stops learning on the worst-ranked pairs; this one does not saturate.
    The two values agree to 1e-9 relative while the difference of scores stays above about -1.

    Args:
        positive_score: (B,).
        negative_score: (B,).

    Returns:
        (B,), >= 0.

    Source: Rendle et al. 2009, eq. for BPR-OPT in section 4.1.
    """
    return F.softplus(negative_score - positive_score)


def infonce(anchors: Tensor, positives: Tensor, candidates: Tensor, temperature: float) -> Tensor:
    """InfoNCE of each anchor against shared or own candidates, the positive included among them.

    The dense form for small candidate sets; `kernels.weighted_infonce_sum` is the streaming one.

    Args:
        anchors: (B, d).
        positives: (B, d).
        candidates: (M, d).
        temperature: > 0, dimensionless.

    Returns:
        (B,), >= 0 when the positive is among the candidates.

    Source: van den Oord et al. 2018, eq. 4.
    """
    logits = anchors @ candidates.T / temperature
    return torch.logsumexp(logits, -1) - (anchors * positives).sum(-1) / temperature


def distance_infonce(positive: Tensor, negatives: Tensor, temperature: float) -> Tensor:
    """InfoNCE on distances: similarity is `-distance / temperature`; the denominator holds the positive once.

    Args:
        positive: (B,) distance of each anchor to its partner.
        negatives: (B, K) distances to the negatives.
        temperature: > 0, in the unit of the distance.

    Returns:
        (B,), >= 0.
    """
    logits = -torch.cat([positive[:, None], negatives], -1) / temperature
    return torch.logsumexp(logits, -1) - logits[:, 0]


def distance_bce(positive: Tensor, negatives: Tensor, temperature: float) -> Tensor:
    """GSC's binary cross-entropy: `exp(-distance / temperature)` is fed as a *logit*, label 1 for the positive.

    The logit lies in (0, 1], so the probability lies in (0.50, 0.73], the value is bounded below by about 0.5 and the
    gradient is gone once the distance exceeds a few temperatures; kept as published for comparison.

    Args:
        positive: (B,) distance of each anchor to its partner.
        negatives: (B, K) distances to the negatives.
        temperature: > 0, in the unit of the distance.

    Returns:
        (B,), mean over the 1 + K pairs of each anchor.

    Source: Han et al. 2022 (GSC), section 3.3 and its public code.
    """
    logits = torch.exp(-torch.cat([positive[:, None], negatives], -1) / temperature)
    labels = torch.zeros_like(logits)
    labels[:, 0] = 1
    return F.binary_cross_entropy_with_logits(logits, labels, reduction="none").mean(-1)


def log_mean_exp(scores: Tensor, groups: Tensor, n_groups: int, temperature: float) -> Tensor:
    """`T log mean exp(score / T)` over each group: between the group's mean (large T) and its maximum (small T).

    Args:
        scores: (B,).
        groups: (B,) int64 in `[0, n_groups)`; every group occurs.
        n_groups: G.
        temperature: T > 0, in the unit of the scores.

    Returns:
        (G,), in the unit of the scores.

    Source: Wu et al. 2024 (BSL), eq. 17, the positive side.
    """
    peak = scores.detach().new_full((n_groups,), -torch.inf).scatter_reduce(0, groups, scores.detach(), "amax")
    mass = ((scores - peak[groups]) / temperature).exp()
    total = torch.zeros_like(peak).index_add(0, groups, mass)
    counts = torch.zeros_like(peak).index_add(0, groups, torch.ones_like(mass))
    return peak + temperature * (total / counts).log()


def top_k_weights(scores: Tensor, thresholds: Tensor, groups: Tensor, ratio: float) -> Tensor:
    """How much each positive counts by whether it is among the best: `sigmoid((score - threshold) / ratio)`, scaled.

    Args:
        scores: (B,), of the positives.
        thresholds: (G,), the score to be among the best, in the unit of the scores.
        groups: (B,) int64 in `[0, G)`, whose threshold; every group occurs.
        ratio: > 0, in the unit of the scores; a large one counts all alike.

    Returns:
        (B,), constants > 0 with mean 1 over each group.

    Source: Yang et al. 2025 (SL@K), the weights of the loss. Theirs are not scaled, so that a user whose positives all
    rank low hardly counts.
    """
    with torch.no_grad():
        logs = F.logsigmoid((scores - thresholds[groups]) / ratio)
        return (logs - log_mean_exp(logs, groups, len(thresholds), 1.0)[groups]).exp()


def alignment(x: Tensor, y: Tensor) -> Tensor:
    """Squared distance of the partners on the unit sphere.

    Args:
        x: (B, d), of unit length.
        y: (B, d), of unit length.

    Returns:
        (B,), in [0, 4].

    Source: Wang & Isola 2020, eq. 1 with alpha = 2; Wang et al. 2022 (DirectAU), eq. 5.
    """
    return (x - y).square().sum(-1)


def uniformity(x: Tensor, counts: Tensor, t: float = 2.0) -> Tensor:
    """Logarithm of the mean Gaussian potential over all pairs of different rows of a batch.

    Args:
        x: (M, d) distinct rows, of unit length.
        counts: (M,) how often each occurs in the batch, >= 1.
        t: > 0, inverse squared width of the Gaussian.

    Returns:
        Scalar, <= 0; 0 where all rows coincide, or there is only one. In the wider of the dtype of x and float32, also
        under autocast: sums over pairs go beyond float16's largest number from a few hundred rows on.

    Source: Wang & Isola 2020, eq. 2; Wang et al. 2022 (DirectAU), eq. 6.
    """
    with torch.autocast(x.device.type, enabled=False):
        return _uniformity(x.to(torch.promote_types(x.dtype, torch.float32)), counts, t)


def _uniformity(x: Tensor, counts: Tensor, t: float) -> Tensor:
    counts = counts.to(x.dtype)
    potential = (2 * t * (x @ x.T - 1)).exp().masked_fill(torch.eye(len(x), dtype=torch.bool, device=x.device), 0)
    copies = (counts * (counts - 1)).sum()  # pairs of copies of a row, at distance 0
    n = counts.sum()
    total = counts @ potential @ counts + copies
    return torch.where(n > 1, total / (n * (n - 1)).clamp_min(1), torch.ones_like(total)).log()


def norm(x: Tensor) -> Tensor:
    """Frobenius norm with a zero gradient at zero.

    Args:
        x: (B, d).

    Returns:
        Scalar, unit of `x`. RecBole's `EmbLoss` is this divided by B.
    """
    return torch.linalg.vector_norm(x)


def squared_norm(x: Tensor) -> Tensor:
    """Half the squared Frobenius norm; RecBole's `EmbLoss` with `require_pow` is this divided by B.

    Args:
        x: (B, d).

    Returns:
        Scalar, squared unit of `x`.
    """
    return 0.5 * x.square().sum()
