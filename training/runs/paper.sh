#!/usr/bin/env bash
# The whole paper, from a training store of real cohorts to a checkpoint, on one machine with 4 GPUs.
#   bash training/runs/paper.sh STORE LONGITUDINAL_STORE WORK_FOLDER
# STORE: every volume of the corpus. LONGITUDINAL_STORE: the T1 of repeated visits (ADNI). Both are folders in the form
# of training/store.py. Killed at any time, the same command goes on: what is finished is skipped, what is not resumes.
set -euo pipefail
trap true TERM USR1 # so that this script waits for the stage, which saves and stops on a signal
store=${1:?give the training store} visits=${2:?give the longitudinal store} work=${3:?give a folder for the runs}
python=${PYTHON:-python}
config=${CONFIG:-training/configs/paper.toml}
processes=${PROCESSES:-4}

# A stage is finished when its checkpoint is there. Every process of it saves and stops on SIGTERM.
stage() { # stage CHECKPOINT MODULE ARGUMENTS...
    local checkpoint=$1
    shift
    [ -e "$checkpoint/manifest.json" ] && return
    "$python" -m torch.distributed.run --standalone --nproc-per-node "$processes" -m "$@"
}

# Section 2.1: the masked autoencoder.
encoder="$work/mae/encoder"
stage "$encoder" training.pretrain_mae "$config" --store "$store" --out "$work/mae"

# Section 2.2: projection and decoder on the frozen encoder; it also writes the latents of the corpus.
tokenizer="$work/tokenizer/tokenizer"
stage "$tokenizer" training.train_tokenizer "$config" --store "$store" --encoder "$encoder" --out "$work/tokenizer"

# Section 2.3: the conditional generator.
corpus=(--tokenizer "$tokenizer" --latents "$work/tokenizer")
stage "$work/dit/dit" training.train_dit "$config" "${corpus[@]}" --out "$work/dit"

# Section 3.4: the forecaster, as the paper's bridge.
[ -e "$work/visits/records.json" ] || "$python" -m training.cache_latents --store "$visits" --encoder "$encoder" \
    --tokenizer "$tokenizer" --out "$work/visits"
pairs=(--tokenizer "$tokenizer" --latents "$work/visits")
stage "$work/forecaster/forecaster" training.train_forecaster "$config" "${pairs[@]}" --out "$work/forecaster"

# Section 3.2: the probes need no GPU.
[ -e "$work/probes/probes/manifest.json" ] || "$python" -m training.fit_probes "${corpus[@]}" --out "$work/probes"

bash training/runs/collect.sh "$work" "$work/paper"
