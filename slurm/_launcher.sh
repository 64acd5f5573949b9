#!/usr/bin/env bash
# One node's `accelerate launch` of train.sh: COMMAND... -- ARGUMENTS OF harness train...
#
# Whatever its processes end with, the launcher ends with 1; so they note their codes in a file.
set -uo pipefail

launch=()
while [[ "$1" != -- ]]; do
  launch+=("$1")
  shift
done
shift

# SLURM signals every process of the task. The launcher has no handler and would die of the signal
# while its processes save; they inherit that it is ignored, and install their own handler.
trap '' USR1

HARNESS_EXIT_CODES="$(mktemp)"
export HARNESS_EXIT_CODES
trap 'rm -f "$HARNESS_EXIT_CODES"' EXIT
# shellcheck disable=SC2016
"${launch[@]}" --machine_rank "$SLURM_NODEID" --no_python bash -c \
  'python harness/train.py "$@"; code=$?; echo "$code" >>"$HARNESS_EXIT_CODES"; exit "$code"' \
  train "$@"
code=$?
if ((code != 0)) && [[ -s "$HARNESS_EXIT_CODES" ]]; then
  # Of the first that ended; the launcher then ends the others.
  code="$(head -n 1 "$HARNESS_EXIT_CODES")"
fi
exit "$code"
