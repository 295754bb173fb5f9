"""A Ray of one's own on this machine with the worker on it: ``python -m Testing.worker.ray_cluster PORT NAME=VALUE``.

With RAY_ADDRESS it uses the Ray that runs there. Says ``serving`` on standard output when it answers; ends, with
everything that it started, when its input closes.
"""

from __future__ import annotations

import os
import sys


def main(port: int, arguments: dict[str, str]) -> None:
    import ray
    from ray import serve

    from braing3n_core.worker.ray_app import app

    own = {"address": "local", "num_cpus": 2, "num_gpus": 0, "include_dashboard": False, "object_store_memory": 2**27}
    ray.init(**({} if "RAY_ADDRESS" in os.environ else own))  # type: ignore[arg-type]
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    serve.run(app(arguments))
    sys.stdout.write("serving\n")
    sys.stdout.flush()
    sys.stdin.read()
    serve.shutdown()
    ray.shutdown()


if __name__ == "__main__":
    main(int(sys.argv[1]), dict(word.split("=", 1) for word in sys.argv[2:]))
