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
{{- else -}}
pull.sh: |
  # Pulls the models given as arguments, those that are not there, and then waits quietly. Ends with
  # the registry's reason when one cannot be pulled; the container is then started again.
  set -u
  trap 'exit 0' TERM INT
  rm -f /tmp/failed
  until ollama list >/dev/null 2>&1; do sleep 1 & wait $!; done

  # Ollama redraws its progress as for a terminal: keep one plain line for each tenth of a layer.
  plain() {
    said='|'
    LC_ALL=C sed -u 's/\x1b\[[0-9;?]*[A-Za-z]\|\r/\n/g' |
      LC_ALL=C sed -u 's/[^ -~]//g; s/  */ /g; /^ *$/d' |
      while read -r line; do
        mark=${line%%[0-9]%*}
        case $said in *"|$mark|"*) continue ;; esac
        said="$said$mark|"
        echo "pull: $line"
      done
  }

  for model; do
    if ollama show "$model" >/dev/null 2>&1; then
      echo "pull: $model is there"
      continue
    fi
    echo "pull: $model"
    { ollama pull "$model" 2>&1 || echo "$?" >/tmp/failed; } | plain &
    wait $!
    if [ -e /tmp/failed ]; then
      rm -f /tmp/failed
      echo "pull: $model could not be pulled; the line above has the reason. Check the name in" \
        "models, the way to the registry (ollama.extraEnv for a proxy) and the space in the volume" >&2
      exit 1
    fi
  done
  echo "pull: all models are there"
  while :; do sleep 86400 & wait $!; done
{{- end -}}
{{- end -}}
