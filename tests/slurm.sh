#!/usr/bin/env bash
# slurm.sh start|stop FOLDER: start or stop a real Slurm on this machine, for tests. Needs root on Debian or Ubuntu;
# works without systemd, cgroups and Docker. To use it after the start: . FOLDER/env
#
# SLURM_TEST_PORT (default 16917): the first free port; one more is needed for each node. SLURM_TEST_CPUS (default 8):
# CPUs that a node reports. SLURM_TEST_NODES (default 1): nodes, all on this machine; two or more are named node1, ...
set -u
usage="usage: $0 start|stop FOLDER"
action=${1:?$usage}
folder=${2:?$usage}
port=${SLURM_TEST_PORT:-16917}
cpus=${SLURM_TEST_CPUS:-8}
count=${SLURM_TEST_NODES:-1}
host=$(hostname -s)
apt_log=$folder.apt
export PATH=$PATH:/usr/sbin:/sbin DEBIAN_FRONTEND=noninteractive SLURM_CONF=$folder/slurm.conf

# The nodes' names, and their daemons: slurmd, or slurmd.NODE for each.
if ((count > 1)); then
  nodes=()
  for ((i = 1; i <= count; i++)); do nodes+=("node$i"); done
else
  nodes=("$host")
fi

# Whether one of our daemons runs. Checks its executable: another program may have its process ID, a zombie has none.
alive() {
  local pid
  pid=$(cat "$folder/$1.pid" 2>/dev/null) || return 1
  case $(readlink "/proc/$pid/exe") in
    */"${1%%.*}" | */"${1%%.*}"-wlm) return 0 ;;
    *) return 1 ;;
  esac
}

stop() {
  local daemon pid
  if alive slurmctld && timeout 10 scancel --user="$(id -un)" 2>/dev/null; then
    sleep 1
  fi
  for daemon in "${nodes[@]/#/slurmd.}" slurmctld munged; do
    alive "$daemon" || continue
    pid=$(cat "$folder/$daemon.pid")
    kill "$pid"
    for _ in {1..80}; do
      alive "$daemon" || break
      sleep 0.1
    done
    alive "$daemon" && kill -9 "$pid"
  done
  return 0
}

fail() {
  echo "Slurm does not start: $*" >&2
  cat "$folder"/*.log "$apt_log" 2>/dev/null | grep -iE 'error|fatal|^E:' | grep -vi mpi | tail -n 4 >&2
  stop
  exit 1
}

install_packages() {
  [[ $(command -v slurmctld slurmd munged sbatch | wc -l) == 4 ]] && return
  command -v apt-get >/dev/null || fail "no Slurm and no apt-get here"
  local -a apt=(apt-get -o Acquire::Retries=0 -o Acquire::http::Timeout=20 -o Acquire::https::Timeout=20)
  { "${apt[@]}" update && "${apt[@]}" install -y --no-install-recommends slurmctld slurmd slurm-client munge; } \
    >"$apt_log" 2>&1 ||
    fail "apt-get cannot install it (no mirror of Debian in reach?)"
}

write_configuration() {
  local address memory node
  getent ahostsv4 "$(hostname)" >/dev/null || echo "127.0.0.1 $(hostname)" >>/etc/hosts
  address=$(getent ahostsv4 "$(hostname)" | awk 'NR == 1 { print $1 }')
  if ((count > 1)) && ! getent ahostsv4 "${nodes[-1]}" >/dev/null; then
    echo "$address ${nodes[*]}" >>/etc/hosts
  fi
  memory=$(awk '/MemTotal/ { print int($2 / 1100) }' /proc/meminfo)
  # Fake GPU devices, so that Slurm sets CUDA_VISIBLE_DEVICES.
  rm -f "$folder"/gpu[01]
  mknod "$folder/gpu0" c 1 3
  mknod "$folder/gpu1" c 1 3
  cat >"$folder/gres.conf" <<EOF
AutoDetect=off
Name=gpu File=$folder/gpu[0-1]
EOF
  cat >"$folder/slurm.conf" <<EOF
ClusterName=test
SlurmctldHost=$host($address)
SlurmctldPort=$port
SlurmUser=root
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
AuthInfo=socket=$folder/munge/socket,cred_expire=5
# Job IDs that no earlier Slurm on this machine used.
FirstJobId=$(($(date +%s) % 50000000 + 1))
SlurmctldPidFile=$folder/slurmctld.own
SlurmdPidFile=$folder/slurmd.%n.own
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.%n.log
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool.%n
MailProg=/bin/true
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SlurmdParameters=config_overrides
GresTypes=gpu
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=2
KillWait=5
MinJobAge=36000
ReturnToService=2
PartitionName=test Nodes=ALL Default=YES MaxTime=INFINITE DefMemPerCPU=100 State=UP
EOF
  for node in "${!nodes[@]}"; do
    echo "NodeName=${nodes[node]} NodeHostname=$host NodeAddr=$address Port=$((port + 1 + node)) CPUs=$cpus" \
      "RealMemory=$((memory / count)) Gres=gpu:2"
  done >>"$folder/slurm.conf"
}

# There is no accounting database, so sacct, which submitit calls, is replaced by a script that calls squeue.
write_sacct() {
  cat >"$folder/bin/sacct" <<'EOF'
#!/bin/sh
jobs=
while [ $# -gt 0 ]; do
  if [ "$1" = -j ]; then
    jobs=$jobs,$2
    shift
  fi
  shift
done
echo "JobID|State|NodeList"
squeue --noheader --array --states=all --jobs="${jobs#,}" --format="%F_%K|%T|%N" | sed s/_N.A//
EOF
  chmod +x "$folder/bin/sacct"
  echo "export SLURM_CONF=$folder/slurm.conf PATH=$folder/bin:\$PATH" >"$folder/env"
}

start() {
  local node idle
  mkdir -p "$folder" || exit 1
  [[ $(id -u) == 0 ]] || fail "root is needed"
  install_packages
  stop
  mkdir -p "$folder"/{munge,bin,state} && chmod 755 "$folder" "$folder/munge" || fail "$folder cannot be written"
  (umask 077 && head -c 256 /dev/urandom >"$folder/key")
  write_configuration
  write_sacct
  munged --force --key-file="$folder/key" --socket="$folder/munge/socket" --pid-file="$folder/munged.pid" \
    --log-file="$folder/munged.log" --seed-file="$folder/seed" || fail "munged"
  setsid slurmctld -D -c </dev/null >"$folder/slurmctld.out" 2>&1 &
  echo $! >"$folder/slurmctld.pid"
  for node in "${nodes[@]}"; do
    mkdir -p "$folder/spool.$node"
    setsid slurmd -D -c -N "$node" </dev/null >"$folder/slurmd.$node.out" 2>&1 &
    echo $! >"$folder/slurmd.$node.pid"
  done
  for attempt in {1..600}; do
    sleep 0.1
    idle=$(timeout 5 sinfo --noheader --Node --format=%T 2>/dev/null | grep -c idle)
    [[ $idle == "$count" ]] && return
    if ((attempt >= 20)) && ! { alive slurmctld && alive "slurmd.${nodes[-1]}"; }; then
      fail "a daemon has ended (one of the ports from $port to $((port + count)) taken?)"
    fi
  done
  fail "not all nodes become idle"
}

case $action in
  start | stop) "$action" ;;
  *)
    echo "$usage" >&2
    exit 2
    ;;
esac
