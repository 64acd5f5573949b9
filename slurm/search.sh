#!/usr/bin/env bash
#SBATCH --job-name=harness-search
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --output=%x-%j.log
#SBATCH --open-mode=append
#SBATCH --signal=USR1@180
#SBATCH --requeue
#
# Search a policy under SLURM, from the folder of the project. All arguments go to `harness search`:
#   sbatch --nodes 2 --gpus-per-node 4 slurm/search.sh --run runs/NAME --target-bitops 31.6G
#
# HARNESS_PROCESSES_PER_NODE  optional: default is the GPUs of a node, or 1
#
# The processes share the images of every policy; the result is that of one process. What was
# evaluated is in the journal at once: a job that is requeued, by itself 180 seconds before the time
# limit, goes on with it.
set -euo pipefail

: "${SLURM_SUBMIT_DIR:?is not set; submit this script with sbatch}"
# shellcheck source=slurm/_common.sh
source "$SLURM_SUBMIT_DIR/slurm/_common.sh"
enter_project
place_processes
note_state "running, restart ${SLURM_RESTART_COUNT:-0}"

arguments=("$@")
if ((${SLURM_RESTART_COUNT:-0} > 0)); then
  arguments+=(--resume)
fi
log_command harness search "${arguments[@]}"
code=0
run_ranks harness search "${arguments[@]}" || code=$?
end_job "$code"
