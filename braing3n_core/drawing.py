"""Decoding without editing: the reconstruction of a scan, and new brains from noise.

Legend: N = 1200 tokens, C latent channels; X Y Z voxels of the model grid.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from .atlas import ATLAS_AFFINE, to_atlas_grid, to_model_grid
from .conditioning import latent_probes
from .generation.guidance import Contrast, Guidance, guide
from .generation.sampling import integrate, log_odds_grid
from .inference import Inference
from .outcomes import Encoded, Generated, Reconstruction
from .preprocess.intensity import to_model
from .progress import Cancel, Progress, part, silent
from .rendering import Renderer
from .schema import GenerateRequest, Reading
from .volume import Volume

if TYPE_CHECKING:
    from torch import Tensor

    from .generation.flow import Velocity
    from .models.conditions import ConditionBatch

BRIGHTEST = 1000.0
"""Intensity that the brightest percent of a generated brain gets; MRI has no unit of its own."""


def reconstruct(encoded: Encoded, decoded: np.ndarray, renderer: Renderer) -> Reconstruction:
    """The decoded scan (X,Y,Z) rendered, with its error inside the brain in z-scored intensities."""
    inside = to_model_grid(encoded.preprocessed.mask.array) > 0
    truth = to_model(encoded.preprocessed.volume.array)[0][inside]
    mse = float(np.square(decoded[inside] - truth).mean())
    peak = float(truth.max() - truth.min())
    psnr = 10 * np.log10(peak**2 / max(mse, 1e-12))  # JSON has no infinity
    return Reconstruction(renderer.full(decoded), mse, float(psnr))


def generate(inference: Inference, request: GenerateRequest, progress: Progress, cancel: Cancel | None) -> Generated:
    """Draw ``request.count`` brains, one after the other; sample i depends on the seed and i alone."""
    conditions = {**dataclasses.asdict(request.conditions)}
    conditions["modality"] = conditions["modality"] or "T1"  # the generator never saw an unknown contrast
    given = inference.conditions("dit", [conditions])
    volumes, latents, readings = [], [], []
    for index in range(request.count):
        share = part(progress, index / request.count, (index + 1) / request.count)
        start = inference.source([conditions["modality"]], request.seed, index, request.noise_scale)
        latents.append(carry(inference, given, start, request, share, cancel)[0].cpu().numpy())
        volumes.append(_volume(inference.decode(latents[-1]), conditions["modality"], index))
        readings.append(_readings(inference, latents[-1], conditions["modality"]))
    noise_scale = inference.noise_scale(conditions["modality"], request.noise_scale)
    guidance_scale = inference.guidance_scale(conditions["disease"], request.guidance_scale)
    truncation = 1.0 if request.truncation is None else request.truncation
    weights = inference.reweighting(conditions["modality"], request.reweighting)
    return Generated(
        tuple(volumes), np.stack(latents), tuple(readings), noise_scale, guidance_scale, truncation, weights
    )


def carry(
    inference: Inference, given: ConditionBatch, start: Tensor, request: GenerateRequest,
    progress: Progress = silent, cancel: Cancel | None = None,
) -> Tensor:
    """Carry noises (B,N,C) to latents of brains under the conditions ``given``, by the request's sampler, guidance,
    reweighting and truncation.

    given: a row for each noise, or one for all. start: see :meth:`Inference.source`. Of the request's own conditions,
    count and seed nothing is read here. Rows of the same guidance are carried together.
    """
    import torch

    given = given if len(given) == len(start) else given.expand(len(start))
    share = request.truncation
    mean = None if share is None else inference.mean_brain(given)
    _weights(inference, given, request)  # refuses before anything is drawn
    made, by_scale = torch.empty_like(start), _rows_by_guidance(inference, given, request)
    with torch.inference_mode():
        for number, (scale, rows) in enumerate(by_scale.items()):
            velocity = guided_velocity(inference, given.rows(torch.tensor(rows)), request, scale)
            made[rows] = integrate(
                velocity, start[rows], log_odds_grid(request.num_steps), request.sampler, cancel=cancel,
                progress=part(progress, number / len(by_scale), (number + 1) / len(by_scale)),
            )
    made = reweighted(inference, given, made, request)
    return made if mean is None or share is None else mean.lerp(made, share)


def reweighted(inference: Inference, given: ConditionBatch, drawn: Tensor, request: GenerateRequest) -> Tensor:
    """Brains (B,N,C) put together again from what sets them apart from their mean: its common and its specific part, by
    the request's weights or the checkpoint's (ADR 31).

    given: a row for each brain. drawn: with the request's guidance, and with weights of 1.
    """
    import torch

    prior, weights = inference.parts.dit.prior, _weights(inference, given, request)
    if prior is None or all(pair == (1, 1) for pair in weights):
        return drawn
    of_common, of_specific = torch.tensor(weights, device=drawn.device).T[:, :, None, None]
    scales = [inference.guidance_scale(disease, request.guidance_scale) for disease in _words(given, "disease")]
    # Guidance moves the mean, and that is no part of what a brain differs from others by.
    guided = torch.tensor(scales, device=drawn.device)[:, None, None]
    with torch.inference_mode():
        mean = prior.mean(_without(given, request)).lerp(prior.mean(given), guided)
        common = prior.common(drawn - mean, prior.features.group(given))
        return mean + of_common * common + of_specific * (drawn - mean - common)


def _weights(inference: Inference, given: ConditionBatch, request: GenerateRequest) -> list[tuple[float, float]]:
    """Of the common and the specific part of each row."""
    return [inference.reweighting(modality, request.reweighting) for modality in _words(given, "modality")]


def _rows_by_guidance(
    inference: Inference, given: ConditionBatch, request: GenerateRequest
) -> dict[float, list[int]]:
    """The rows that are drawn with each guidance."""
    found: dict[float, list[int]] = {}
    for row, disease in enumerate(_words(given, "disease")):
        found.setdefault(inference.guidance_scale(disease, request.guidance_scale), []).append(row)
    return found


def guided_velocity(
    inference: Inference, given: ConditionBatch, request: GenerateRequest, scale: float
) -> Velocity:
    """The velocity that brains are drawn by: the generator's under ``given``, guided by ``scale`` as requested."""
    guidance = Guidance(scale, request.guidance_interval, request.zero_star)
    every = 1 if request.exact_guidance else 2
    return guide(inference.velocity("dit"), given, [Contrast(_without(given, request), guidance)], every=every)


def _without(given: ConditionBatch, request: GenerateRequest) -> ConditionBatch:
    """The conditions that guidance leads away from."""
    return given.null() if request.guide_numbers else given.null(given.spec.amplified)


def _words(given: ConditionBatch, name: str) -> list[str | None]:
    """Of each row; None where the generator does not know the condition."""
    return given.words(name) if name in given.spec.categories else [None] * len(given)


def _volume(decoded: np.ndarray, modality: str, index: int) -> Volume:
    """A z-scored volume (X,Y,Z) as intensities from 0 on the atlas grid."""
    # The background is the commonest value of a z-scored brain volume: that is where 0 belongs.
    counts, edges = np.histogram(decoded, bins=512)
    floor = float(edges[np.argmax(counts) + 1])
    scale = BRIGHTEST / max(float(np.percentile(decoded, 99)) - floor, 1e-6)
    intensities = np.maximum((decoded - floor) * scale, 0).astype(np.float32)
    return Volume.from_array(to_atlas_grid(intensities), ATLAS_AFFINE, modality=modality, name=f"sample-{index + 1}")


def _readings(inference: Inference, latents: np.ndarray, modality: str) -> tuple[Reading, ...]:
    if not inference.parts.has("probes"):
        return ()
    panel = latent_probes(inference.parts.probes)
    return tuple(panel.read(latents, np.zeros(0, np.float32), modality))
