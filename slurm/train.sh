#!/usr/bin/env bash
#SBATCH --job-name=harness-train
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --output=%x-%j.log
#SBATCH --open-mode=append
#SBATCH --signal=USR1@180
#SBATCH --requeue
#
# Train under SLURM, from the folder of the project. All arguments go to harness/train.py:
#   sbatch --nodes 2 --gpus-per-node 4 slurm/train.sh --config configs/train/imagenet_resnet18.yaml
#
# HARNESS_ACCELERATE_CONFIG   optional: a file that `accelerate config` wrote
# HARNESS_PROCESSES_PER_NODE  optional: default is the GPUs of a node, or 1
#
# 180 seconds before the time limit SLURM sends SIGUSR1; the workers then save at the end of their
# step. The same command goes on from there.
set -euo pipefail

: "${SLURM_SUBMIT_DIR:?is not set; submit this script with sbatch}"
# shellcheck source=slurm/_common.sh
source "$SLURM_SUBMIT_DIR/slurm/_common.sh"
enter_project

num_nodes="${SLURM_JOB_NUM_NODES:-1}"
# No `| head -n 1`: under pipefail, scontrol's SIGPIPE would end the job when head is the quicker one.
hosts="$(scontrol show hostnames "$SLURM_JOB_NODELIST")"
main_host="${hosts%%$'\n'*}"
main_port=$((20000 + SLURM_JOB_ID % 20000))
processes_per_node="${HARNESS_PROCESSES_PER_NODE:-${SLURM_GPUS_ON_NODE:-1}}"

launch=(accelerate launch)
if [[ -n "${HARNESS_ACCELERATE_CONFIG:-}" ]]; then
  launch+=(--config_file "$HARNESS_ACCELERATE_CONFIG")
fi
launch+=(
  --num_machines "$num_nodes"
  --num_processes "$((num_nodes * processes_per_node))"
  --main_process_ip "$main_host"
  --main_process_port "$main_port"
)
if ((num_nodes > 1)); then
  # The default launcher of DeepSpeed would go from node to node by ssh.
  launch+=(--deepspeed_multinode_launcher standard)
fi

log_command "${launch[@]}" harness/train.py "$@"

# The launcher has no handler and would die of the signal while its workers save. The workers inherit
# that it is ignored and install their own handler.
trap '' USR1

# The rank of the machine is known only inside the task.
# shellcheck disable=SC2016
srun --ntasks="$num_nodes" --ntasks-per-node=1 bash -c \
  'script_start=$1; shift; exec "${@:1:script_start}" --machine_rank "$SLURM_NODEID" "${@:script_start+1}"' \
  task "${#launch[@]}" "${launch[@]}" harness/train.py "$@"
