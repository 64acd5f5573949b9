# shellcheck shell=bash
# What both job scripts share; sourced, never run.

# What a process ends with that SIGUSR1 stopped: the program saves first, and what dies of the signal
# while it starts has nothing to save.
readonly STOPPED=$((128 + 10))

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

# Whether the file that `accelerate launch` is given is one for DeepSpeed.
asks_for_deepspeed() {
  [[ -n "${HARNESS_ACCELERATE_CONFIG:-}" ]] &&
    grep -qE "^distributed_type: *['\"]?DEEPSPEED" "$HARNESS_ACCELERATE_CONFIG"
}

# Set how many processes the job has and where they meet.
place_processes() {
  num_nodes="${SLURM_JOB_NUM_NODES:-1}"
  processes_per_node="${HARNESS_PROCESSES_PER_NODE:-${SLURM_GPUS_ON_NODE:-1}}"
  if [[ ! "$processes_per_node" =~ ^[1-9][0-9]*$ ]]; then
    echo "HARNESS_PROCESSES_PER_NODE is $processes_per_node; give a whole number from 1" >&2
    exit 2
  fi
  num_processes=$((num_nodes * processes_per_node))
  # No `| head -n 1`: under pipefail, scontrol's SIGPIPE would end the job when head is the quicker.
  local hosts address
  hosts="$(scontrol show hostnames "$SLURM_JOB_NODELIST")"
  main_host="${hosts%%$'\n'*}"
  # A node's name need not be one that the network knows.
  address="$(scontrol --oneliner show node "$main_host")"
  if [[ "$address" =~ NodeAddr=([^[:space:]]+) ]]; then
    main_host="${BASH_REMATCH[1]}"
  fi
  # Below the ports that the system hands out by itself.
  main_port=$((10000 + SLURM_JOB_ID % 20000))
  if [[ -z "${SLURM_GPUS_ON_NODE:-}" ]] && ! asks_for_deepspeed; then
    # Accelerate joins processes over gloo only when it is told that there are no GPUs; told so, it
    # leaves DeepSpeed out, which finds that by itself.
    export ACCELERATE_USE_CPU=true
  fi
  local cpus_per_process=$((${SLURM_CPUS_ON_NODE:-1} / processes_per_node))
  if ((cpus_per_process >= 1)); then
    placement=("--cpus-per-task=$cpus_per_process")
  else
    placement=(--overcommit)
  fi
  export OMP_NUM_THREADS="${OMP_NUM_THREADS:-$((cpus_per_process > 1 ? cpus_per_process : 1))}"
}

# Run the command in every process of the job, which SLURM starts itself: with no launcher between,
# signals reach the processes and their exit codes come back.
run_ranks() {
  local join=()
  if ((num_processes > 1)); then
    # Only the task knows its rank.
    # shellcheck disable=SC2016
    join=(env "MASTER_ADDR=$main_host" "MASTER_PORT=$main_port" "WORLD_SIZE=$num_processes"
      "LOCAL_WORLD_SIZE=$processes_per_node" bash -c
      'export RANK="$SLURM_PROCID" LOCAL_RANK="$SLURM_LOCALID"; exec "$@"' rank)
  fi
  # Once one process has ended, the others soon do so by themselves; --wait is for one that hangs.
  srun --ntasks="$num_processes" --ntasks-per-node="$processes_per_node" "${placement[@]}" \
    --distribution=block --wait=60 "${join[@]}" "$@"
}

# Let squeue and `scontrol show job` say in the job's comment how it stands.
note_state() {
  scontrol update JobId="$SLURM_JOB_ID" Comment="$1" || echo "the job's comment stays as it was" >&2
}

# End the job as its processes did, or put it back into the queue where they were stopped to go on.
end_job() {
  case "$1" in
    0) note_state "finished" ;;
    "$STOPPED")
      echo "saved, requeue"
      note_state "saved, requeue"
      scontrol requeue "$SLURM_JOB_ID"
      ;;
    *) note_state "failed, exit code $1" ;;
  esac
  exit "$1"
}
