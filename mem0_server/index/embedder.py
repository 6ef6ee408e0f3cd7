"""mem0ai's Ollama embedder without its habit of pulling a missing model by itself."""

from __future__ import annotations

from mem0.embeddings.ollama import OllamaEmbedding


class LocalEmbedder(OllamaEmbedding):
    """Uses the models that are there; a missing one is an error that its first use tells."""

    def _ensure_model_exists(self) -> None:
        """Leave the choice of models to whoever runs Ollama."""
