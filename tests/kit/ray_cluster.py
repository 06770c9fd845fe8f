"""A real Ray cluster of two nodes on this machine, for a process of its own.

Prints its address, then lets the second node die, as a machine does, for each line "kill" on stdin; ends with stdin.
"""

import sys

from ray.cluster_utils import Cluster

_STARTS = 3  # tries: Ray gives a node 30 s to come up, which a busy machine may need


def main() -> None:
    args = {"num_cpus": 1, "object_store_memory": 80_000_000, "include_dashboard": False}
    cluster = _started(args)
    second = cluster.add_node(num_cpus=1, object_store_memory=80_000_000)
    print(cluster.address, flush=True)
    try:
        for line in sys.stdin:
            if line.strip() == "kill":
                cluster.remove_node(second, allow_graceful=False)
                print("killed", flush=True)
    finally:
        cluster.shutdown()


def _started(args: dict[str, object]) -> Cluster:
    for left in reversed(range(_STARTS)):
        cluster = Cluster()
        try:
            cluster.add_node(**args)
            return cluster
        except Exception:
            cluster.shutdown()
            if not left:
                raise
    raise AssertionError


if __name__ == "__main__":
    main()
