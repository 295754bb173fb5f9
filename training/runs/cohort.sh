#!/usr/bin/env bash
# The way of a cohort, once, at the smallest sizes: a BIDS data set of phantoms, its manifest, its preparation, and
# training/runs/tiny.sh from there. With real scans it is the same four commands, without the first.
#   bash training/runs/cohort.sh WORK_FOLDER
# SUBJECTS, VISITS, MODALITIES, JOBS: of the data set (defaults 12, 2, "T1 FLAIR") and processes (default 2).
set -euo pipefail
work=${1:?give a folder for the data set, the store and the runs}
python=${PYTHON:-python}
read -ra modalities <<<"${MODALITIES:-T1 FLAIR}"

"$python" -m training.phantom --subjects "${SUBJECTS:-12}" --visits "${VISITS:-2}" --modalities "${modalities[@]}" \
    --out "$work/phantoms" --jobs "${JOBS:-2}"
"$python" -m training.manifest "$work/phantoms" -o "$work/manifest.tsv"
"$python" -m training.prepare "$work/manifest.tsv" -o "$work/store" --jobs "${JOBS:-2}"
bash training/runs/tiny.sh "$work"
