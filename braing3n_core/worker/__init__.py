"""The worker: the engine behind HTTP, for many users and one device (docs/worker.md).

Three kinds of processes: the API (this package without ``executor`` and ``parser``; it never imports torch and never
reads a voxel), a short-lived ``parser`` for each uploaded file, and one ``executor`` with the warm engine.
"""
