"""What the probes read on held-out phantoms (paper, Table 1 protocol), beside the ceiling and the mean-token protocol.

The ceiling of age is a regression on the phantom's own true volumes: what nobody could beat from anatomy alone.
"""

from __future__ import annotations

import numpy as np

from braing3n_core.probes import softmax, two_sided

from ..phantom.ceiling import age_ceiling
from .bench import Bench, bench, show


def evaluate(table: Bench, count: int) -> list[tuple[str, object]]:
    """Errors and AUCs of the shipped probes on the first visits of ``count`` held-out subjects."""
    from sklearn.metrics import roc_auc_score

    store = table.store
    first = store.where(modality="T1", visit=0)[:count]
    records = [store.records[i] for i in first]
    latents, _ = table.encode(first)
    flat = latents.flatten(1).numpy()
    age = np.array([r["age_years"] for r in records])
    healthy = np.array([r["disease"] == "HC" for r in records])
    ceiling = age_ceiling([r["truth"] for r in records], age, healthy)
    predicted = {task: table.panel.probe(task).scores(flat)[:, 0] for task in ("age", "ventricle_volume")}
    ventricles = np.array([r["truth"]["ventricles_ml"] for r in records])
    age_probe = table.panel.probe("age")
    inside = np.abs(predicted["age"] - age) <= age_probe.half_width

    def auc(task: str, positive: str, rows: np.ndarray) -> float:
        probe = table.panel.probe(task)
        logits = two_sided(probe.scores(flat[rows]))
        names = sorted({str(records[i][task]) for i in np.flatnonzero(rows)})
        keep = [probe.classes.index(n) for n in names]
        score = softmax(logits[:, keep])[:, names.index(positive)]
        return float(roc_auc_score([records[i][task] == positive for i in np.flatnonzero(rows)], score))

    hc_ad = np.array([r["disease"] in ("HC", "AD") for r in records])
    every = np.ones(len(records), bool)
    return [
        ("subjects", len(records)),
        ("age MAE (years)", float(np.abs(predicted["age"] - age).mean())),
        ("age r", float(np.corrcoef(predicted["age"], age)[0, 1])),
        ("age ceiling MAE from true volumes (years)", ceiling.mae_years),
        ("age interval coverage (level 0.9)", float(inside.mean())),
        ("ventricle volume r", float(np.corrcoef(predicted["ventricle_volume"], ventricles)[0, 1])),
        ("ventricle volume MAE (ml)", float(np.abs(predicted["ventricle_volume"] - ventricles).mean())),
        ("sex AUC", auc("sex", "M", every)),
        ("disease HC vs AD AUC", auc("disease", "AD", hc_ad)),
        ("modality accuracy", modality_accuracy(table, count)),
    ]


def modality_accuracy(table: Bench, count: int) -> float:
    """Share of held-out volumes, all contrasts, whose modality is named."""
    indices = np.linspace(0, len(table.store) - 1, min(2 * count, len(table.store))).astype(int).tolist()
    probe = table.panel.probe("modality")
    latents, _ = table.encode(indices)
    named = np.array(probe.classes)[probe.probabilities(latents.flatten(1).numpy()).argmax(1)]
    return float(np.mean([name == table.store.records[i]["modality"] for name, i in zip(named, indices, strict=True)]))


if __name__ == "__main__":
    BENCH, OPTIONS = bench(__doc__ or "")
    show(evaluate(BENCH, OPTIONS.count), OPTIONS.json)
