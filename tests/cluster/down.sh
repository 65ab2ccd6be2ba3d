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
for file in "$state"/run/slurmd.*.pid "$state"/run/slurmctld.pid "$state"/run/munged.pid; do
  [ -s "$file" ] && kill "$(cat "$file")" 2>/dev/null
done
exit 0
