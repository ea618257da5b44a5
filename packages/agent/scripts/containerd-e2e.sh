#!/usr/bin/env bash
# Several containerds pull through their agents from a real registry, calm and
# under faults; every pull has to end well, and docker-registry's own log says what
# it handed out. Needs root, and Debian's containerd, docker-registry and skopeo,
# which it installs; leaves nothing.
set -euo pipefail

cd "$(dirname "$0")/../../.."
export PATH="$PWD/node_modules/.bin:$PATH"
nodes=${NODES:-4}

if ((EUID != 0)); then
  echo "containerd-e2e: skipped: containerd needs root" >&2
  [[ ${CI:-} != true ]] && exit 0 || exit 1
fi
missing=()
for tool in containerd docker-registry skopeo curl; do
  command -v "$tool" >/dev/null || missing+=("$tool")
done
if ((${#missing[@]} > 0)); then
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
fi

work=$(mktemp -d -p "${TMPDIR:-/var/tmp}")
pids=()
cleanup() {
  {
    for pid in "${pids[@]}"; do kill -KILL "$pid" || true; done
    wait
  } 2>/dev/null
  # What containerd has mounted goes before its directories.
  { grep -o " $work/[^ ]*" /proc/mounts || true; } | sort -r | while read -r mount; do umount -l "$mount" || true; done
  rm -rf "$work"
}
trap cleanup EXIT

fail() {
  echo "containerd-e2e: $*" >&2
  exit 1
}
export DOCKER_CONFIG="$work/docker"
mkdir "$DOCKER_CONFIG"

gantry() { node --conditions=@gantry/source packages/agent/src/bin.ts "$@"; }

# A registry, an image, and another one that shares all of its layers but the last.

registry=127.0.0.1:5910
registry_pid=
start_registry() {
  docker-registry serve "$work/registry.yml" >>"$work/registry.log" 2>&1 &
  registry_pid=$!
  pids+=("$registry_pid")
  for _ in $(seq 100); do curl -sf "http://$registry/v2/" >/dev/null && return; sleep 0.1; done
  fail "docker-registry does not answer: $(tail -n 3 "$work/registry.log")"
}
stop_registry() { kill "$registry_pid"; wait "$registry_pid" 2>/dev/null || true; }
cat >"$work/registry.yml" <<CONFIG
version: 0.1
log: {level: info}
storage: {filesystem: {rootdirectory: $work/registry}, delete: {enabled: true}}
http: {addr: "$registry"}
CONFIG
start_registry
gantry pack "$work/image" --tag v1 >/dev/null
push() { skopeo copy --quiet --all --dest-tls-verify=false "oci:$work/image:v1" "docker://$registry/$1"; }
push demo/app:v1

# The nodes: an agent and a containerd each.

declare -A agent_pid
agent_config() {
  local i=$1
  cat >"$work/n$i/agent.yaml" <<CONFIG
node_name: n$i
data_dir: $work/n$i/data
upstream_registries:
  - {name: "$registry", endpoint: "http://$registry"}
members_file: $work/members.yaml
mirror_listen: 127.0.0.1:$((5920 + i))
transfer_listen: 127.0.0.1:$((5940 + i))
libp2p_listen: [/ip4/127.0.0.1/tcp/$((5960 + i))]
metrics_listen: 127.0.0.1:$((5980 + i))
admin_socket: $work/n$i/admin.sock
tags_ttl: 1s
log_format: pretty
log_level: debug
CONFIG
}
start_agent() {
  local i=$1
  # Not by way of a function: its number must be that of the agent itself.
  node --conditions=@gantry/source packages/agent/src/bin.ts agent --config "$work/n$i/agent.yaml" >>"$work/n$i/agent.log" 2>&1 &
  agent_pid[$i]=$!
  pids+=("$!")
}
# Ready, and aware of all others: agents that start in the same moment meet only when they ask again.
await_agent() {
  local metrics="http://127.0.0.1:$((5980 + $1))/metrics"
  for _ in $(seq 300); do
    grep -qx "gantry_members $nodes" <(curl -s "$metrics") && curl -sf "${metrics%metrics}readyz" >/dev/null && return
    sleep 0.1
  done
  fail "agent $1 is not ready: $(tail -n 5 "$work/n$1/agent.log")"
}
start_containerd() {
  local i=$1
  cat >"$work/n$i/containerd.toml" <<CONFIG
version = 2
root = "$work/n$i/root"
state = "$work/n$i/state"
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.grpc.v1.cri"]
[grpc]
  address = "$work/n$i/containerd.sock"
[ttrpc]
  address = "$work/n$i/ttrpc.sock"
CONFIG
  containerd --config "$work/n$i/containerd.toml" >"$work/n$i/containerd.log" 2>&1 &
  pids+=("$!")
}
on() { ctr --address "$work/n$1/containerd.sock" -n k8s.io "${@:2}"; }
# Without unpacking, which has nothing to do with us and takes longest.
pull() { on "$1" content fetch --hosts-dir "$work/n$1/certs.d" "$registry/$2" >"$work/n$1/pull.log" 2>&1; }
forget() { on "$1" images rm --sync "$registry/$2" >/dev/null; }

: >"$work/members.yaml"
for i in $(seq "$nodes"); do
  mkdir -p "$work/n$i"
  agent_config "$i"
  echo "- {transfer_addr: \"127.0.0.1:$((5940 + i))\"}" >>"$work/members.yaml"
done
for i in $(seq "$nodes"); do start_agent "$i"; start_containerd "$i"; done
for i in $(seq "$nodes"); do
  await_agent "$i"
  gantry containerd configure --config "$work/n$i/agent.yaml" --containerd-config "$work/n$i/containerd.toml" \
    --config-path "$work/n$i/certs.d" >/dev/null 2>&1 || true
  [[ -f $work/n$i/certs.d/$registry/hosts.toml ]] || fail "no hosts.toml for node $i"
done
for i in $(seq "$nodes"); do
  for _ in $(seq 100); do on "$i" version >/dev/null 2>&1 && break; sleep 0.1; done
done

all_pull() {
  local image=$1 failed=0 waiting=()
  for i in $(seq "$nodes"); do pull "$i" "$image" & waiting+=("$!"); done
  for i in $(seq "$nodes"); do wait "${waiting[$((i - 1))]}" || { failed=1; tail -n 3 "$work/n$i/pull.log" >&2; }; done
  ((failed == 0)) || fail "a pull of $image failed"
}
all_forget() { for i in $(seq "$nodes"); do forget "$i" "$1"; done; }
# What the registry handed out since a line of its log: each digest, with how often.
handed_out() {
  tail -n "+$(($1 + 1))" "$work/registry.log" |
    sed -n 's/.*"GET \/v2\/[a-z\/]*\/\(blobs\|manifests\)\/\(sha256:[0-9a-f]*\) HTTP[^"]*" 20[06] .*/\2/p' | sort | uniq -c | awk '{print $1}'
}
at() { wc -l <"$work/registry.log"; }
total() { handed_out "$1" | awk '{s += $1} END {print s + 0}'; }
most() { handed_out "$1" | sort -n | tail -n 1; }

step() { printf '== %s\n' "$*"; }

step "$nodes containerds pull the same image at once"
before=$(at)
all_pull demo/app:v1
digests=$(handed_out "$before" | wc -l)
[[ $(most "$before") == 1 ]] || fail "the registry was asked for a digest $(most "$before") times"
echo "docker-registry handed out each of $digests digests once, to $nodes containerds"

step "again with the caches warm and the registry down, by tag and by digest"
all_forget demo/app:v1
sleep 2
stop_registry
all_pull demo/app:v1
digest=$(on 1 images ls | awk -v name="$registry/demo/app:v1" '$1 == name {print $3}')
pull 1 "demo/app@$digest" || fail "a pull by digest failed while the registry is down: $(tail -n 3 "$work/n1/pull.log")"
grep -q 'tag not revalidated' <(curl -s -D - -o /dev/null "http://127.0.0.1:5921/v2/demo/app/manifests/v1") ||
  fail "a stale tag does not say so"
start_registry
echo "tags were answered stale, and said so"

step "an agent is killed in the middle of a layer"
fresh() { for i in $(seq "$nodes"); do rm -rf "$work/n$i/data/store" "$work/n$i/data/tags"; done; }
stop_agents() {
  for i in "${!agent_pid[@]}"; do kill "${agent_pid[$i]}" 2>/dev/null || true; done
  for i in "${!agent_pid[@]}"; do wait "${agent_pid[$i]}" 2>/dev/null || true; done
}
restart_cold() {
  stop_agents
  fresh
  for i in $(seq "$nodes"); do start_agent "$i"; done
  for i in $(seq "$nodes"); do await_agent "$i"; done
}
all_forget demo/app:v1
on 1 images rm --sync "$registry/demo/app@$digest" >/dev/null || true
restart_cold
pull 1 demo/app:v1 &
waiting=$!
for _ in $(seq 100); do
  grep -q 'kind="layer",source="origin"' <(curl -s http://127.0.0.1:5981/metrics) && break
  sleep 0.05
done
kill -KILL "${agent_pid[1]}"
wait "$waiting" || fail "the pull did not end well: $(tail -n 3 "$work/n1/pull.log")"
echo "containerd went on at the registry"
start_agent 1
await_agent 1

step "an agent is told to stop while others pull"
all_forget_if_there() { for i in $(seq "$nodes"); do on "$i" images rm --sync "$registry/$1" >/dev/null 2>&1 || true; done; }
all_forget_if_there demo/app:v1
waits=()
for i in $(seq "$nodes"); do pull "$i" demo/app:v1 & waits+=("$!"); done
sleep 0.3
kill -TERM "${agent_pid[2]}"
for i in $(seq "$nodes"); do
  wait "${waits[$((i - 1))]}" || fail "the pull of node $i failed: $(tail -n 3 "$work/n$i/pull.log")"
done
wait "${agent_pid[2]}" && code=0 || code=$?
[[ $code == 0 ]] || fail "an agent that is told to stop exits with $code"
start_agent 2
await_agent 2
echo "all pulls ended well; the agent exited with 0"

step "a blob is corrupted in the store of one agent"
all_forget_if_there demo/app:v1
layer=$(ls -S "$work/n3/data/store/blobs/sha256" | sed -n 2p)
printf 'X' | dd of="$work/n3/data/store/blobs/sha256/$layer" bs=1 seek=1000 conv=notrunc status=none
all_pull demo/app:v1
echo "nobody got a wrong byte"

step "an image that shares its layers with one that is here"
skopeo copy --quiet --dest-tls-verify=false --src-tls-verify=false "docker://$registry/demo/app:v1" "docker://$registry/demo/other:v2"
before=$(at)
all_pull demo/other:v2
[[ $(total "$before") == 0 ]] || fail "the registry handed out $(total "$before") blobs that were here"
echo "nothing moved but the question for the tag"

echo "containerd-e2e: all is well"
