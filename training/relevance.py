"""Which latent channels a variable can be read from: variance components, one a channel (ADR 14).

Shape legend: n scans, N tokens, C latent channels, K outputs. The weights of a linear probe get a normal prior whose
variance is one number a channel; the numbers are those under which the labels are most likely. The probe stays a dot
product with the flattened latents: only its penalty knows that most channels say nothing about, say, age.
"""

from __future__ import annotations

import numpy as np

ITERATIONS = 20
SCANS = 1200
NOISE_FLOOR = 1e-3


def channel_grams(latents: np.ndarray) -> np.ndarray:
    """Centred Gram matrices (C,n,n) float32 of latents (n,N,C), each of mean diagonal 1."""
    grams = []
    for channel in range(latents.shape[2]):
        block = latents[:, :, channel].astype(np.float32)
        block = block - block.mean(0)
        gram = block @ block.T
        grams.append(gram / max(float(np.trace(gram)) / len(gram), 1e-12))
    return np.stack(grams)


def variance_components(grams: np.ndarray, y: np.ndarray, iterations: int = ITERATIONS) -> tuple[np.ndarray, float]:
    """Variances (C,) of the channels and of the noise under which y (n,) or (n,K), standardised, is most likely.

    Minorisation-maximisation: every iteration multiplies a variance by the root of what the data ask of it over what
    the model spends on it, which never lowers the likelihood and keeps it positive.
    """
    y = np.asarray(y, dtype=np.float32).reshape(len(y), -1)
    y = (y - y.mean(0)) / np.maximum(y.std(0), 1e-12)
    variances, noise = np.full(len(grams), 0.5 / len(grams)), 0.5
    for _ in range(iterations):
        covariance = np.tensordot(variances.astype(np.float32), grams, 1)
        covariance[np.diag_indices(len(y))] += noise
        inverse = np.linalg.inv(covariance)
        solved = inverse @ y
        asked = np.array([np.vdot(solved, gram @ solved) for gram in grams]) / y.shape[1]
        spent = np.array([np.vdot(inverse, gram) for gram in grams])
        variances = variances * np.sqrt(asked / np.maximum(spent, 1e-12))
        # A label that few scans explain without rest would make the next covariance singular in float32.
        noise = max(noise * float(np.sqrt(np.vdot(solved, solved) / y.shape[1] / np.trace(inverse))), NOISE_FLOOR)
    return variances, noise


def channel_scales(latents: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Factors (C,) by which to scale the channels of latents (n,N,C) before a ridge with one penalty, the largest 1.

    At most :data:`SCANS` scans, evenly spread, decide.
    """
    chosen = np.linspace(0, len(y) - 1, min(len(y), SCANS)).astype(int)
    latents, y = latents[chosen], np.asarray(y)[chosen]
    size = np.array([float(np.square(c - c.mean(0)).sum()) for c in latents.transpose(2, 0, 1)]) / len(latents)
    scales = np.sqrt(variance_components(channel_grams(latents), y)[0] / np.maximum(size, 1e-12))
    return scales / scales.max() if scales.max() > 0 else np.ones_like(scales)
