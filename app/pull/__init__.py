"""The Job that brings one model to every Ollama of an instance, and tells how far it is.

``python -m app.pull``. It knows nothing of the app's settings and needs none.
"""
