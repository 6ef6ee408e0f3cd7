"""The HTTP face: routes, errors, what is common to all requests. No SQL, no mem0ai."""
