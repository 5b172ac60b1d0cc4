#!/usr/bin/env bash
# Builds both images with the running Docker engine and tries what the README promises of them:
# serve, segment, train into the shared volume, serve what was trained. Everything it makes belongs
# to a Compose project of its own, which is removed at the end; the build cache stays.
#
# DOCKER_BUILD_ARGS: more arguments for `docker build`, such as --build-context wheels=FOLDER
set -euo pipefail
cd "$(dirname "$0")/.."
umask 022 # the trainer's user must be able to read the data

project=maskwright-test-$$
work=$(mktemp -d)
url= # the service's, once it runs
unset COMPOSE_FILE COMPOSE_PROFILES SERVICE_MEMORY TRAINER_MEMORY API_KEYS
export COMPOSE_PROJECT_NAME=$project
export MODEL=voc PORT=0 DATA=$work/data # port 0: the engine picks a free one

clean_up() {
    docker compose --profile train down --volumes --rmi local --timeout 5 >/dev/null 2>&1 || true
    rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

say() { printf '\n== %s\n' "$*"; }

fail() {
    printf 'FAILED: %s\n' "$*" >&2
    docker compose logs --tail 30 service >&2 || true
    exit 1
}

expect() { # what, expected, found
    [ "$2" = "$3" ] || fail "$1: expected '$2', found '$3'"
    printf 'ok: %s: %s\n' "$1" "${3:-none}"
}

in_service() { docker compose exec -T service "$@"; }

inspect_service() { # template
    docker inspect --format "$1" "$(docker compose ps --all --quiet service)"
}

get() { curl --silent --show-error --noproxy '*' --max-time 300 "$@"; }

serve() { # model
    export MODEL=$1
    docker compose up --no-build --detach --wait --wait-timeout 300 service ||
        fail "the service does not become healthy"
    local address
    address=$(docker compose port service 8000)
    url=http://$address
    expect "health, serving $1" healthy "$(inspect_service '{{.State.Health.Status}}')"
    expect "published on" 127.0.0.1 "${address%:*}"
}

segment() { # model
    local found
    found=$(get --output "$work/answer.json" --write-out '%{http_code} %{content_type}' \
        --form file=@docs/cat.jpg "$url/segment")
    expect "POST /segment" "200 application/json" "$found"
    found=$(get --output "$work/mask.png" --dump-header "$work/headers" \
        --write-out '%{http_code} %{content_type}' \
        --form file=@docs/cat.jpg --header 'Accept: image/png' "$url/segment")
    expect "POST /segment with Accept: image/png" "200 image/png" "$found"
    expect "answered by" "$1" "$(tr -d '\r' <"$work/headers" | sed -n 's/^[Xx]-[Mm]odel: //p')"
    expect "the mask is" "PNG P $(picture '{0.width}x{0.height}' <docs/cat.jpg)" \
        "$(picture '{0.format} {0.mode} {0.width}x{0.height}' <"$work/mask.png")"
}

picture() { # format string; the file comes from stdin
    in_service python -c '
import io, sys
from PIL import Image
image = Image.open(io.BytesIO(sys.stdin.buffer.read()))
image.load()
print(sys.argv[1].format(image))' "$1"
}

mount_mode() { # mount point in the service
    in_service cat /proc/mounts |
        awk -v at="$1" '$2 == at { split($4, options, ","); mode = options[1] } END { print mode }'
}

process_status() { # field of /proc/PID/status, over all processes of the service
    in_service sh -c 'cat /proc/[0-9]*/status 2>/dev/null; true' |
        awk -v field="$1:" '$1 == field { print $2 }' | sort -u
}

stop_service() {
    local began=$SECONDS
    docker compose stop service
    expect "exit status after SIGTERM" 0 "$(inspect_service '{{.State.ExitCode}}')"
    [ $((SECONDS - began)) -lt 10 ] || fail "the service did not stop by itself within 10 s"
}

make_data() { # a tar archive on stdout: six images of 64x64 with a square in each, VOC's layout
    docker compose run --rm --no-deps -T --entrypoint python trainer -c '
import io, sys, tarfile
import numpy as np
from PIL import Image

random = np.random.default_rng(0)
archive = tarfile.open(fileobj=sys.stdout.buffer, mode="w|")

def add(name, content):
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))

def encoded(pixels, form):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, form)
    return stream.getvalue()

names = [f"image{index}" for index in range(6)]
for name in names:
    mask = np.zeros((64, 64), np.uint8)
    top, left = random.integers(4, 28, 2)
    mask[top : top + 32, left : left + 32] = 8
    image = random.integers(0, 90, (64, 64, 3), dtype=np.uint8)
    image[mask > 0] += 150
    add(f"JPEGImages/{name}.jpg", encoded(image, "JPEG"))
    add(f"SegmentationClass/{name}.png", encoded(mask, "PNG"))
for split, members in (("train", names[:4]), ("val", names[4:])):
    add(f"ImageSets/Segmentation/{split}.txt", "\n".join(members).encode())
archive.close()'
}

status_of() { # model, in GET /models
    get "$url/models" | in_service python -c '
import json, sys
models = {model["name"]: model["status"] for model in json.load(sys.stdin)["models"]}
print(models.get(sys.argv[1], "not listed"))' "$1"
}

say "compose files"
docker compose --profile train config --quiet
docker compose --file docker-compose.yml --file docker/gpu.yml --profile train config --quiet
echo "ok: docker-compose.yml, docker/gpu.yml"

say "build"
read -r -a build_args <<<"${DOCKER_BUILD_ARGS:-}"
for image in service trainer; do
    # the names that Compose gives them
    docker build ${build_args[@]+"${build_args[@]}"} --file docker/Dockerfile \
        --target "$image" --tag "$project-$image" .
done

say "image sizes"
docker image ls --filter "reference=$project-*" --format '{{.Repository}}: {{.Size}}'
layers() {
    docker image inspect --format "{{range .RootFS.Layers}}{{println .}}{{end}}" "$1" | sort -u
}
shared=$(comm -12 <(layers "$project-service") <(layers "$project-trainer") | grep -c sha256)
echo "layers of both: $shared; of the service: $(layers "$project-service" | grep -c sha256)"

say "serve the carried checkpoint"
serve voc
segment voc

say "confinement"
expect "user of every process" 10001 "$(process_status Uid)"
expect "effective capabilities" 0000000000000000 "$(process_status CapEff)"
expect "new privileges refused" 1 "$(process_status NoNewPrivs)"
expect "root filesystem" ro "$(mount_mode /)"
expect "checkpoints, in the service" ro "$(mount_mode /checkpoints)"
expect "the C sources were compiled" True \
    "$(in_service python -c 'from models import compiled; print(compiled.library() is not None)')"

say "keys"
in_container() { docker compose run --rm --no-deps -T "$@"; }
refused=$(in_container --env SERVICE_INSECURE=false service 2>&1) &&
    fail "without a key the service listens on every address"
[[ $refused == *--api-key-file* ]] || fail "the refusal does not say what to do: $refused"
echo "ok: without a key and without SERVICE_INSECURE the service does not start"
key=$(in_container service keys new --name test 2>"$work/line")
API_KEYS=$(grep "^test:segment:" "$work/line")
export API_KEYS
serve voc
expect "GET /models without a key" 401 \
    "$(get --output /dev/null --write-out '%{http_code}' "$url/models")"
expect "GET /models with it" 200 \
    "$(get --output /dev/null --write-out '%{http_code}' --header "X-API-Key: $key" "$url/models")"
unset API_KEYS
serve voc

say "train"
mkdir "$DATA"
make_data >"$work/data.tar"
tar -xf "$work/data.tar" -C "$DATA"
expect "demo before training" "not listed" "$(status_of demo)"
docker compose run --rm -T trainer fit --data /data --arch unet_efficientnet_lite0 \
    --out /checkpoints/demo --image-size 64 --epochs 1 --batch-size 2
expect "demo after training" available "$(status_of demo)"

say "serve what was trained"
serve demo
segment demo
expect "demo" active "$(status_of demo)"
expect "voc" available "$(status_of voc)"

say "stop"
stop_service

say "everything passed"
