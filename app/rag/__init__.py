"""Documents in, answers out: parsing, chunking, vectors, prompts, memory."""
