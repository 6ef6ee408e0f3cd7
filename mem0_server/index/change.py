"""What is said of a change of the embedding model. It imports nothing, as each start needs it."""

from __future__ import annotations


def same_model(one: str, other: str) -> bool:
    """Whether two names are the same model's; ``:latest`` stands where no tag does."""
    return one.removesuffix(":latest") == other.removesuffix(":latest")


def refusal(indexed: str, wanted: str) -> str:
    """What to say of another embedding model that nobody asked to go over to."""
    return (
        f"the memories are indexed with {indexed}, and the settings ask for {wanted}. To embed all "
        "of them anew, set models.reindex to true (REINDEX=true outside the chart); or set "
        f"models.embedding (EMBEDDING_MODEL) back to {indexed}"
    )


def misfit(model: str, dimensions: int, indexed: int) -> str:
    """What to say of a model whose vectors have another length than those of its index."""
    return (
        f"{model} makes vectors of length {dimensions} now, and the memories are indexed with "
        f"vectors of length {indexed}. To embed all of them anew, set models.reindex to true "
        "(REINDEX=true outside the chart); or bring the former weights back"
    )
