#!/usr/bin/env bash
# Rolls an image out of a real registry, and lets the tools of others judge what
# the nodes hold: docker-registry serves, skopeo and umoci read. Installs what is
# missing, on Debian and its kin. Needs nothing running, and leaves nothing.
set -euo pipefail

cd "$(dirname "$0")/../../.."
nodes=${NODES:-4}
export PATH="$PWD/node_modules/.bin:$PATH"

missing=()
for tool in docker-registry skopeo umoci; do
  command -v "$tool" >/dev/null || missing+=("$tool")
done
if ((${#missing[@]} > 0)); then
  root=()
  if ((EUID != 0)); then root=(sudo); fi
  "${root[@]}" apt-get update -qq
  DEBIAN_FRONTEND=noninteractive "${root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}"
fi

work=$(mktemp -d -p "${TMPDIR:-/var/tmp}")
registry_pid=
cleanup() {
  if [[ -n $registry_pid ]]; then
    kill "$registry_pid" 2>/dev/null || true
    wait "$registry_pid" 2>/dev/null || true
  fi
  # An unpacked root file system may hold directories that cannot be written to.
  chmod -R u+rwX "$work" 2>/dev/null || true
  rm -rf "$work"
}
trap cleanup EXIT

fail() {
  echo "registry-e2e: $*" >&2
  exit 1
}

# An empty directory keeps everyone's own credentials out of this.
export DOCKER_CONFIG="$work/docker"
mkdir "$DOCKER_CONFIG"

cat >"$work/registry.yml" <<CONFIG
version: 0.1
log: {level: info}
storage: {filesystem: {rootdirectory: $work/registry}}
http: {addr: "127.0.0.1:0"}
CONFIG
docker-registry serve "$work/registry.yml" >"$work/registry.log" 2>&1 &
registry_pid=$!
registry=
for _ in $(seq 300); do
  kill -0 "$registry_pid" 2>/dev/null || fail "docker-registry ended: $(cat "$work/registry.log")"
  registry=$(sed -n 's/.*listening on \(127\.0\.0\.1:[0-9]*\).*/\1/p' "$work/registry.log" | head -n 1)
  [[ -n $registry ]] && break
  sleep 0.1
done
[[ -n $registry ]] || fail "docker-registry does not listen"
echo "docker-registry listens on $registry"

node --conditions=@gantry/source packages/agent/src/bin.ts pack "$work/image" --tag v1
skopeo copy --quiet --all --dest-tls-verify=false "oci:$work/image:v1" "docker://$registry/demo/app:v1"
pushed=$(wc -l <"$work/registry.log")

npm start --silent -- --nodes "$nodes" --json --keep "$work/nodes" \
  --origin "http://$registry" --image "$registry/demo/app:v1" >"$work/report.json"

node -e '
  const assert = require("node:assert")
  const [file, nodes] = process.argv.slice(1)
  const lines = require("node:fs").readFileSync(file, "utf8").trim().split("\n")
  const report = JSON.parse(lines.at(-1))
  assert.deepStrictEqual(report.problems, [])
  assert.strictEqual(report.nodes, Number(nodes))
  assert.ok(report.digests >= 8)
  assert.strictEqual(report.originPulls.max, 1)
  assert.strictEqual(report.originPulls.total, report.digests)
  assert.strictEqual(report.verified, report.nodes * report.digests)
  assert.strictEqual(report.failed, 0)
  assert.strictEqual(report.bytesFromOrigin * report.nodes, report.bytesDirect)
' "$work/report.json" "$nodes"
echo "the report has no problems"

# What the registry itself saw since the push: each digest once, and none that the image does not have.
tail -n "+$((pushed + 1))" "$work/registry.log" |
  sed -n 's/.*"GET \/v2\/demo\/app\/[a-z]*\/\(sha256:[0-9a-f]*\) HTTP[^"]*" 20[06] .*/\1/p' |
  sort >"$work/pulled"
(cd "$work/image/blobs/sha256" && printf 'sha256:%s\n' *) | sort >"$work/expected"
diff "$work/expected" "$work/pulled" || fail "the registry was not asked for every digest exactly once"
echo "docker-registry handed out each of $(wc -l <"$work/expected") digests exactly once, to $nodes nodes"

expected=$(skopeo inspect "oci:$work/image:v1")
for ((number = 1; number <= nodes; number++)); do
  layout="$work/nodes/node-$number"
  [[ $(skopeo inspect "oci:$layout:v1") == "$expected" ]] || fail "skopeo reads another image from $layout"
  [[ $(umoci ls --layout "$layout") == v1 ]] || fail "umoci does not find v1 in $layout"
  umoci stat --image "$layout:v1" >/dev/null
  # What skopeo copies it also hashes.
  skopeo copy --quiet "oci:$layout:v1" "dir:$work/copy-$number"
  rm -rf "$work/copy-$number"
done
umoci unpack --rootless --image "$work/nodes/node-1:v1" "$work/bundle"
cmp "$(node -p process.execPath)" "$work/bundle/rootfs/usr/local/bin/node"
cmp packages/protocol/package.json "$work/bundle/rootfs/app/node_modules/@gantry/protocol/package.json"
echo "skopeo and umoci read the image from every node"
