#!/usr/bin/env bash
# One node with eight GPUs under SLURM: sbatch configs/cluster/slurm.sh CONFIG RUN
# A job that ran out of time goes on where it stopped: submit the same line again.
#SBATCH --job-name=selfdev
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --mem=0
#SBATCH --time=08:00:00
# The programs get ten minutes' notice to end at a whole step.
#SBATCH --signal=INT@600
set -euo pipefail

config=${1:?which config: for example configs/paper-gsm8k.yaml}
run=${2:?which run folder: for example runs/paper}
cd "${SLURM_SUBMIT_DIR:-.}"

resume=()
[ ! -e "$run/run.db" ] || resume=(--resume)

# What cannot fit is said here, before anything is loaded.
.venv/bin/selfdev-engine run "$config" --run "$run" "${resume[@]}" --plan
# Since SLURM 22.05 a step does not inherit --cpus-per-task: without it, it would be bound to one core.
srun --ntasks=1 --cpus-per-task="${SLURM_CPUS_PER_TASK:-64}" .venv/bin/selfdev-engine run "$config" --run "$run" "${resume[@]}"
