#!/usr/bin/env bash
# End the Slurm that up.sh started, and every job on it:  down.sh STATE
set -uo pipefail
state=$(realpath -m "${1:?the folder of its state}")
export SLURM_CONF=$state/etc/slurm.conf
scancel --user "$(id -un)" 2>/dev/null
for _ in $(seq 20); do
  [ -z "$(squeue -h 2>/dev/null)" ] && break
  sleep 0.5
done
# What ran on a node that was set down may have outlived its job.
for process in /proc/[0-9]*; do
  if grep -qz '^SLURM_JOB_ID=' "$process/environ" 2>/dev/null &&
    grep -qzF "$state/bin:" "$process/environ" 2>/dev/null; then
    kill -9 "${process#/proc/}" 2>/dev/null
  fi
done
for file in "$state"/run/slurmd.*.pid "$state"/run/slurmctld.pid "$state"/run/munged.pid; do
  [ -s "$file" ] && kill "$(cat "$file")" 2>/dev/null
done
exit 0
