# shellcheck shell=bash
# What both job scripts share; sourced, never run.

# Stop with a sentence unless the variable $1 is set; $2 says what to do.
require() {
  if [[ -z "${!1:-}" ]]; then
    echo "$1 is not set; $2" >&2
    exit 2
  fi
}

# Enter the folder of the project and its virtual environment.
enter_project() {
  require SLURM_JOB_ID "submit this script with sbatch"
  require SLURM_SUBMIT_DIR "submit this script with sbatch"
  cd "$SLURM_SUBMIT_DIR" || exit 2
  VIRTUAL_ENV="${VIRTUAL_ENV:-$PWD/.venv}"
  if [[ ! -x "$VIRTUAL_ENV/bin/harness" ]]; then
    echo "$VIRTUAL_ENV/bin/harness is not there; run make install or activate an environment" >&2
    exit 2
  fi
  export VIRTUAL_ENV PATH="$VIRTUAL_ENV/bin:$PATH"
}

# Say in the log which job this is and what it runs.
log_command() {
  echo "job $SLURM_JOB_ID, restart ${SLURM_RESTART_COUNT:-0}, nodes ${SLURM_JOB_NODELIST:-unknown}"
  env | grep -E '^(SLURM_(JOB|NNODES|NTASKS|GPUS|CPUS)|CUDA_VISIBLE|NCCL_|OMP_|HARNESS_)' | sort
  printf 'command:'
  printf ' %q' "$@"
  printf '\n'
}
