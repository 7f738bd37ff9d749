#!/usr/bin/env bash
# Several nodes with eight GPUs each under SLURM, by Ray: sbatch configs/cluster/slurm-ray.sh CONFIG RUN
# The repository and the run folder are on a file system that all nodes share. A job that ran out of time
# goes on where it stopped: submit the same line again.
#SBATCH --job-name=selfdev
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --mem=0
#SBATCH --exclusive
#SBATCH --time=08:00:00
# The driver gets ten minutes' notice to end at a whole step.
#SBATCH --signal=B:INT@600
# With job control, what runs in the background does not ignore the notice.
set -euom pipefail

config=${1:?which config: for example configs/paper-gsm8k.yaml}
run=${2:?which run folder: for example runs/paper}
cd "${SLURM_SUBMIT_DIR:-.}"

resume=()
[ ! -e "$run/run.db" ] || resume=(--resume)

# This script runs on the first node, which is the cluster's head.
port=6379
# Its name may stand for 127.0.1.1 here, as on Debian: the first address counts that others can reach.
ip=
for word in $(hostname --ip-address) $(hostname --all-ip-addresses); do
    case $word in 127.* | *:*) ;; *) ip=${ip:-$word} ;; esac
done
address="${ip:?this node has no address that others can reach}:$port"
export RAY_USAGE_STATS_ENABLED=0
.venv/bin/ray start --head --node-ip-address="$ip" --port="$port" --disable-usage-stats
trap '.venv/bin/ray stop' EXIT
if [ "$SLURM_JOB_NUM_NODES" -gt 1 ]; then
    others=$((SLURM_JOB_NUM_NODES - 1))
    # A step does not inherit --cpus-per-task (SLURM 22.05), and knows nodes by SLURM's names for them.
    srun --overlap --nodes="$others" --ntasks="$others" --cpus-per-task="${SLURM_CPUS_PER_TASK:-64}" \
        --exclude="${SLURMD_NODENAME:-$(hostname)}" \
        .venv/bin/ray start --address="$address" --block &
fi

# Workers wait for nodes that are not there yet.
workers=$((8 * SLURM_JOB_NUM_NODES))
.venv/bin/selfdev-engine run "$config" --run "$run" "${resume[@]}" --address "$address" --workers "$workers" &
driver=$! status=0
trap 'kill -INT "$driver"' INT
# A signal ends `wait`, not the driver.
while wait "$driver" && status=0 || status=$?; kill -0 "$driver" 2> /dev/null; do :; done
exit "$status"
