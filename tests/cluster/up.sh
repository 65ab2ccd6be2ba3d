#!/usr/bin/env bash
# A Slurm of its own on this machine: munged, slurmctld and a slurmd for each node. No systemd, no root.
#
#     up.sh STATE [GPU_NODES=1] [CPU_NODES=2]     then: eval "$(cat STATE/env.sh)"
#     down.sh STATE
#
# Everything lies under STATE. A fresh port each time, SLURM_TEST_PORT, keeps clusters apart; a node
# offers SLURM_TEST_CPUS. Needs the programs: apt-get install --no-install-recommends slurm-wlm munge
set -euo pipefail
state=$(realpath -m "${1:?a folder for its state}") gpu_nodes=${2:-1} cpu_nodes=${3:-2}
port=${SLURM_TEST_PORT:-26817} cpus=${SLURM_TEST_CPUS:-4} host=$(hostname -s)
memory=$(($(awk '/MemTotal/{print $2}' /proc/meminfo) / 1024))
mkdir -p "$state"/{bin,etc,ctld,log,run,munge}
chmod 755 "$state"
chmod 700 "$state/munge"
socket=$state/run/munge.sock

# Munge with a key and a socket of its own: the machine's, if it has one, is left alone.
[ -s "$state/munge/munge.key" ] || (umask 077 && head -c 1024 /dev/urandom >"$state/munge/munge.key")
munged --force --key-file="$state/munge/munge.key" --socket="$socket" \
  --pid-file="$state/run/munged.pid" --log-file="$state/munge/munged.log" \
  --seed-file="$state/munge/munged.seed"

# Nodes share the machine: each says that it has all of its memory. What a GPU is, a file has to be: a
# gres without one counts 0 and takes the node out, and one that is no device is refused.
all=() nodes='' gres=''
add_node() {
  all+=("$1")
  nodes+="NodeName=$1 NodeHostname=$host NodeAddr=127.0.0.1 Port=$((port + 1 + ${#all[@]})) CPUs=$cpus RealMemory=$memory $2"$'\n'
}
for i in $(seq 1 "$cpu_nodes"); do add_node "cpu$i" ''; done
for i in $(seq 1 "$gpu_nodes"); do
  add_node "gpu$i" Gres=gpu:fake:1
  gres+="NodeName=gpu$i Name=gpu Type=fake Count=1 File=/dev/null"$'\n'
done
partition() { # NAME COUNT REST
  [ "$2" -eq 0 ] || nodes+="PartitionName=$1 Nodes=$1[1-$2] MaxTime=INFINITE State=UP $3"$'\n'
}
partition cpu "$cpu_nodes" Default=YES
partition gpu "$gpu_nodes" ''

# OverMemoryKill holds jobs to their memory without cgroups; jobcomp is a record of jobs without a
# database; MinJobAge is how long squeue remembers a job that has ended, cred_expire how long one that
# is requeued has to wait.
cat >"$state/etc/slurm.conf" <<EOC
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$port
SlurmUser=$(id -un)
SlurmdUser=$(id -un)
AuthType=auth/munge
AuthInfo=socket=$socket,cred_expire=20
CredType=cred/munge
StateSaveLocation=$state/ctld
SlurmdSpoolDir=$state/spool.%n
SlurmctldPidFile=$state/run/slurmctld.pid
SlurmdPidFile=$state/run/slurmd.%n.pid
SlurmctldLogFile=$state/log/slurmctld.log
SlurmdLogFile=$state/log/slurmd.%n.log
SwitchType=switch/none
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,sched_min_interval=0,bf_interval=1
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
ReturnToService=2
SlurmdParameters=config_overrides
GresTypes=gpu
MinJobAge=300
KillWait=5
JobCompType=jobcomp/filetxt
JobCompLoc=$state/log/jobcomp.txt
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
JobAcctGatherParams=OverMemoryKill,NoShared
AccountingStorageType=accounting_storage/none
DefMemPerCPU=512
$nodes
EOC
printf '%s' "$gres" >"$state/etc/gres.conf"

# snakemake-executor-plugin-slurm-jobstep removes SLURM_CONF before it calls srun, which then looks for
# /etc/slurm: this srun knows where the configuration is.
real=$(command -v srun)
printf '#!/bin/sh\nSLURM_CONF=%s exec %s "$@"\n' "$state/etc/slurm.conf" "$real" >"$state/bin/srun"
chmod +x "$state/bin/srun"
printf 'export SLURM_CONF=%s PATH=%s:$PATH\n' "$state/etc/slurm.conf" "$state/bin" >"$state/env.sh"

export SLURM_CONF=$state/etc/slurm.conf
slurmctld -c -i
for node in "${all[@]}"; do
  mkdir -p "$state/spool.$node"
  slurmd -N "$node"
done
for _ in $(seq 120); do
  [ "$(sinfo -h -N -o '%N %T' 2>/dev/null | grep -c ' idle$')" -ge ${#all[@]} ] && exit 0
  sleep 0.5
done
echo "the nodes did not come up within a minute; see $state/log:" >&2
sinfo -N -l >&2
exit 1
