{{/* How models arrive: copied from an image, or pulled from a registry. */}}
{{- define "ollama.config" -}}
{{- if .values.preload.image -}}
preload.sh: |
  # Copies the models folder $1 into the volume $2. What is there by name stays: a blob's name is
  # its content's. A file gets its name when it is whole, and blobs come before the manifests that
  # name them, so a copy that was interrupted goes on where it stopped.
  set -eu
  target=$2
  cd "$1"
  copy() {
    mkdir -p "$target/$1"
    for entry in "$1"/*; do
      if [ -d "$entry" ]; then
        copy "$entry"
      elif [ -e "$entry" ] && [ ! -e "$target/$entry" ]; then
        echo "preload: $entry"
        cp "$entry" "$target/.incoming"
        mv "$target/.incoming" "$target/$entry"
      fi
    done
  }
  copy blobs
  copy manifests
  echo "preload: all models of the image are in the volume"
  # The place of a manifest in the folder, as the name of its model.
  named() { sed 's,^\./,,; s,^registry\.ollama\.ai/,,; s,^library/,,; s,/\([^/]*\)$,:\1,'; }
  missing=
  while read -r place; do
    [ -e "$target/manifests/$place" ] || missing="$missing $(echo "$place" | named)"
  done </etc/metis-models/manifests
  if [ -n "$missing" ]; then
    has=$(cd manifests && find . -type f | named | sort | tr '\n' ' ')
    has=${has% }
    echo "preload: the image does not have:$missing. It has: $has. Name these in models, or" \
      "another image in ollama.preload.image" >&2
    exit 1
  fi
{{- end }}
ready.sh: |
  # Ready is a server that has every model that was wanted when its pod began: one that is wanted
  # later takes no running pod out of service while it is pulled.
  set -eu
  wanted=/tmp/wanted-models
  [ -e $wanted ] || { cp /etc/metis-models/shown $wanted.new && mv $wanted.new $wanted; }
  there=$(ollama list)
  missing=
  while read -r model; do
    case "
  $there" in
      *"
  $model"[[:space:]]*) ;;
      *) missing="$missing $model" ;;
    esac
  done <$wanted
  [ -z "$missing" ] || { echo "not there yet:$missing"; exit 1; }
{{- end -}}
