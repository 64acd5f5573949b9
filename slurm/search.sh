#!/usr/bin/env bash
#SBATCH --job-name=harness-search
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --output=%x-%j.log
#SBATCH --open-mode=append
#
# Search a policy under SLURM, from the folder of the project. All arguments go to `harness search`:
#   sbatch --gpus 1 slurm/search.sh --run runs/NAME --target-bitops 31.6G
set -euo pipefail

: "${SLURM_SUBMIT_DIR:?is not set; submit this script with sbatch}"
# shellcheck source=slurm/_common.sh
source "$SLURM_SUBMIT_DIR/slurm/_common.sh"
enter_project

log_command harness search "$@"
srun --ntasks=1 harness search "$@"
