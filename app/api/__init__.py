"""HTTP: routes, dependencies and the one error handler."""
