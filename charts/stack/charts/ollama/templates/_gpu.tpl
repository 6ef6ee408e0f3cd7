{{/*
What GPUs change in the model server's pod. Each template takes the context of part "ollama".
*/}}

{{/*
"ollama.onGpu" PART: the part's context with the placement that GPUs ask for. A toleration only
permits, so the usual taint of the nodes is tolerated without being asked.
*/}}
{{- define "ollama.onGpu" -}}
{{- $gpu := .values.gpu -}}
{{- $values := deepCopy .values -}}
{{- $taint := include "ollama.gpuTaint" . -}}
{{- $own := list -}}
{{- range .values.tolerations -}}
{{- if eq (.key | default "") $taint -}}
{{- $own = append $own . -}}
{{- end -}}
{{- end -}}
{{- if not $own -}}
{{- $usual := dict "key" $taint "operator" "Exists" "effect" "NoSchedule" -}}
{{- $_ := set $values "tolerations" (append .values.tolerations $usual) -}}
{{- end -}}
{{- $_ := set $values "nodeSelector" (merge (deepCopy $gpu.nodeSelector) .values.nodeSelector) -}}
{{- $_ := set . "values" $values -}}
{{- $_ := set . "runtimeClassName" $gpu.runtimeClassName -}}
{{- $_ := set . "supplementalGroups" $gpu.supplementalGroups -}}
{{- end -}}

{{/* "ollama.gpuTaint" PART: the key of the usual taint: a maker's nodes have one for all profiles. */}}
{{- define "ollama.gpuTaint" -}}
{{- $name := .values.gpu.resourceName -}}
{{- $maker := splitList "/" $name | first -}}
{{- has $maker (list "nvidia.com" "amd.com") | ternary (printf "%s/gpu" $maker) $name -}}
{{- end -}}

{{/*
"ollama.image" PART: the server's image. The libraries for AMD's GPUs come in an image of their own,
tagged as the version with -rocm; any other tag than a version is the user's own and stays.
*/}}
{{- define "ollama.image" -}}
{{- $image := .values.image -}}
{{- if and .values.gpu.enabled (hasPrefix "amd.com/" .values.gpu.resourceName) (regexMatch "^v?[0-9]+(\\.[0-9]+)+$" $image.tag) -}}
{{- $image = merge (dict "tag" (printf "%s-rocm" $image.tag)) $image -}}
{{- end -}}
{{- include "stack.image" (list .root $image) -}}
{{- end -}}

{{/*
"ollama.gpuMebibytes" PART: the memory of all its GPUs in MiB; 0 when none are used or it is not
given.
*/}}
{{- define "ollama.gpuMebibytes" -}}
{{- $gpu := .values.gpu -}}
{{- if and $gpu.enabled $gpu.memory -}}
{{- mul (include "stack.mebibytes" $gpu.memory | int) (int $gpu.count) -}}
{{- else -}}
0
{{- end -}}
{{- end -}}

{{/*
"ollama.tuning" PART: the environment that says how the memory is used. What is given wins; the rest
follows from the memory of the GPUs. The steps lie a little under 16, 24 and 48 GiB, as cards show
less than they are sold with. Memory that is nobody else's is not given back after use.
*/}}
{{- define "ollama.tuning" -}}
{{- $memory := include "ollama.gpuMebibytes" . | int -}}
{{- $step := 0 -}}
{{- range list 14 22 44 -}}
{{- if ge $memory (mul . 1024 | int) -}}
{{- $step = add1 $step -}}
{{- end -}}
{{- end -}}
{{- $derived := dict "keepAlive" "30m" "numParallel" 1 -}}
{{- if $memory -}}
{{- $models := include "stack.ollamaModels" .root | fromYamlArray | len -}}
{{- $loaded := ge (int $step) 3 | ternary (add1 $models) $models -}}
{{- $keep := hasSuffix ".shared" .values.gpu.resourceName | ternary "30m" "-1" -}}
{{- $derived = dict "keepAlive" $keep "numParallel" (index (list 1 2 4 8) (int $step)) "maxLoadedModels" $loaded -}}
{{- end -}}
{{- range $key, $name := dict "keepAlive" "OLLAMA_KEEP_ALIVE" "maxLoadedModels" "OLLAMA_MAX_LOADED_MODELS" "numParallel" "OLLAMA_NUM_PARALLEL" -}}
{{- $value := kindIs "invalid" (index $.values $key) | ternary (get $derived $key) (index $.values $key) -}}
{{- if $value }}
- {name: {{ $name }}, value: {{ $value | toString | quote }}}
{{- end }}
{{- end }}
{{- end -}}

{{/*
"ollama.devices" PART: the environment that says which devices to use. NVIDIA's image settings ask
for all of its GPUs: where the pod has none of them allocated it would take them all the same.
*/}}
{{- define "ollama.devices" -}}
{{- $gpu := .values.gpu -}}
{{- if not (and $gpu.enabled (hasPrefix "nvidia.com/" $gpu.resourceName)) }}
- {name: NVIDIA_VISIBLE_DEVICES, value: void}
{{- end }}
{{- if and $gpu.enabled (hasPrefix "gpu.intel.com/" $gpu.resourceName) }}
- {name: OLLAMA_VULKAN, value: "1"}
{{- end }}
{{- end -}}
