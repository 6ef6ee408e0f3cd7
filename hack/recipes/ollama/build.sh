#!/usr/bin/env bash
# Compiles Ollama for CPUs from the Go module proxy. Runs inside the `builder` stage.
#   SOURCE   the folder of the module github.com/ollama/ollama
#   MALGO    the folder of the module github.com/gen2brain/malgo
#   VERSION  without "v"
#   OUT      gets bin/ollama and lib/ollama/*.so
set -euo pipefail

# Module archives leave out folders called vendor/, and with them three headers that Ollama's copy
# of llama.cpp includes: two come from Debian, miniaudio from the module malgo.
include=/tmp/include
mkdir -p "$include/stb" "$include/miniaudio" "$OUT/bin" "$OUT/lib/ollama"
cp -r /usr/include/nlohmann "$include/"
cp /usr/include/stb/stb_image.h "$include/stb/"
cp "$MALGO/miniaudio.h" "$include/miniaudio/"

mkdir /tmp/main && cd /tmp/main
printf 'module build\ngo 1.24.1\nrequire github.com/ollama/ollama v%s\n' "$VERSION" >go.mod
settings=github.com/ollama/ollama
CGO_ENABLED=1 CGO_CPPFLAGS="-I$include" go build \
	-ldflags "-s -w -X=$settings/version.Version=$VERSION -X=$settings/server.mode=release" \
	-o "$OUT/bin/ollama" github.com/ollama/ollama

# The libraries picked at run time by the CPU's abilities make generation five times faster than
# the code inside the binary, prompts and embeddings ten times.
cp -r --no-preserve=mode "$SOURCE" /tmp/source
cmake -G Ninja -S /tmp/source -B /tmp/build -DCMAKE_BUILD_TYPE=Release -DGGML_CCACHE=OFF -DCMAKE_SKIP_RPATH=ON
cmake --build /tmp/build --target ggml-base ggml-cpu-haswell ggml-cpu-icelake
cp -a /tmp/build/lib/ollama/libggml-*.so* "$OUT/lib/ollama/"
strip --strip-unneeded "$OUT"/lib/ollama/*.so
