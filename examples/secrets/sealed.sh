#!/bin/sh
# Sealed Secrets: makes a sealed file of each Secret that values.yaml names, to be kept in Git. The
# values come from files in the folder given, never from the command line; kubeseal asks the cluster
# for the certificate of its controller. Usage: sealed.sh FOLDER NAMESPACE
set -eu
from=$1 namespace=$2
seal() {  # NAME TYPE ENTRY=FILE...
  name=$1 type=$2
  shift 2
  given=$#
  for entry; do set -- "$@" "--from-file=${entry%%=*}=$from/${entry#*=}"; done
  shift "$given"
  kubectl create secret generic "$name" --type="$type" -n "$namespace" "$@" --dry-run=client -o yaml |
    kubeseal --format yaml >"sealed-$name.yaml"
}
seal rag-users Opaque keys.json=keys.json test-key=test-key
seal rag-memory-key Opaque api-key=memory-key
seal rag-documents-db Opaque password=documents-db-password
seal rag-memory-db Opaque password=memory-db-password
seal rag-registry kubernetes.io/dockerconfigjson .dockerconfigjson=dockerconfig.json
seal rag-tls kubernetes.io/tls tls.crt=tls.crt tls.key=tls.key
