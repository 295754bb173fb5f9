"""Readings in words, for tables on a screen and on a page."""

from __future__ import annotations

from typing import Any

from .schema import Effect, Reading


def number(value: float | str, unit: str = "") -> str:
    """A value with its unit."""
    text = value if isinstance(value, str) else f"{value:.1f}"
    return f"{text} {unit}".strip()


def value_text(reading: Reading) -> str:
    """The reading with its unit."""
    return number(reading.value, reading.unit)


def certainty_text(reading: Reading) -> str:
    """The interval of a regression or the leading probabilities of a classification."""
    if reading.interval is not None:
        low, high = reading.interval
        return f"{low:.1f} to {high:.1f} ({reading.level:.0%} interval)"
    ranked = sorted((reading.probabilities or {}).items(), key=lambda item: -item[1])
    return ", ".join(f"{name} {share:.0%}" for name, share in ranked[:3])


def quality_text(reading: Reading) -> str:
    """The probe's own quality in one line."""
    return quality_line(reading.quality)


def quality_line(quality: dict[str, Any]) -> str:
    """The numbers of a probe and where they were measured: ``mae 4.2, r2 0.9 (held-out phantoms)``."""
    numbers = quality_numbers(quality)
    return f"{numbers} ({quality['data']})" if quality.get("data") else numbers


def quality_numbers(quality: dict[str, Any]) -> str:
    """The numbers of a probe alone: ``mae 4.2, r2 0.9``."""
    return ", ".join(
        f"{name.replace('_', ' ')} {value:.3g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in quality.items() if name != "data" and not isinstance(value, dict | list)
    )


def familiar_text(reading: Reading) -> str:
    """Whether the scan resembles the training data, with the score, its limit and the percentile where it is known."""
    word = "yes" if reading.in_distribution else "NO"
    rank = "" if reading.ood_percentile is None else f", further than {reading.ood_percentile:.0f} % of training"
    return f"{word} ({reading.ood_score:.2f}, limit 1{rank})"


def drift_text(effect: Effect) -> str:
    """How far an edit moved a reading: a change in the variable's unit, or of the probability of a class."""
    if effect.drift is None:
        return ""
    if effect.chance_before is not None and effect.chance_after is not None:
        return f"{effect.word} {effect.chance_before:.3f} to {effect.chance_after:.3f} in probability"
    if isinstance(effect.before, str):
        return f"{effect.drift:+.3f} in probability"
    return f"{effect.drift:+.2f} {effect.unit}".strip()
