#!/usr/bin/env bash
#SBATCH --job-name=harness-train
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --output=%x-%j.log
#SBATCH --open-mode=append
#SBATCH --signal=USR1@180
#SBATCH --requeue
#
# Train under SLURM, from the folder of the project. All arguments go to `harness train`:
#   sbatch --nodes 2 --gpus-per-node 4 slurm/train.sh --config configs/train/resnet18_imagenet.yaml
#
# HARNESS_PROCESSES_PER_NODE  optional: default is the GPUs of a node, or 1
# HARNESS_ACCELERATE_CONFIG   optional: a file that `accelerate config` wrote, say for DeepSpeed
#
# 180 seconds before the time limit SLURM sends SIGUSR1; the processes then save at the end of their
# step, and the job puts itself back into the queue and goes on from there.
set -euo pipefail

: "${SLURM_SUBMIT_DIR:?is not set; submit this script with sbatch}"
# shellcheck source=slurm/_common.sh
source "$SLURM_SUBMIT_DIR/slurm/_common.sh"
enter_project
place_processes
note_state "running, restart ${SLURM_RESTART_COUNT:-0}"

code=0
if [[ -z "${HARNESS_ACCELERATE_CONFIG:-}" ]]; then
  log_command harness train "$@"
  run_ranks harness train "$@" || code=$?
else
  launch=(
    accelerate launch
    --config_file "$HARNESS_ACCELERATE_CONFIG"
    --num_machines "$num_nodes"
    --num_processes "$num_processes"
    --main_process_ip "$main_host"
    --main_process_port "$main_port"
  )
  if ((num_nodes > 1)); then
    # The default launcher of DeepSpeed would go from node to node by ssh.
    launch+=(--deepspeed_multinode_launcher standard)
  fi
  if ((num_processes > 1)) && grep -qE "^distributed_type: *['\"]?(NO|MULTI_CPU)" "$HARNESS_ACCELERATE_CONFIG"; then
    # On CPUs this launcher alone starts a process per rank, each of which then uses its CPU.
    launch+=(--multi_gpu)
  fi
  log_command "${launch[@]}" harness/train.py "$@"
  srun --ntasks="$num_nodes" --ntasks-per-node=1 --cpus-per-task="${SLURM_CPUS_ON_NODE:-1}" --wait=60 \
    bash slurm/_launcher.sh "${launch[@]}" -- "$@" || code=$?
fi
end_job "$code"
