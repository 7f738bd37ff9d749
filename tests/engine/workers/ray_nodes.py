"""A Ray cluster of nodes on this machine, in a process of its own: Ray inside pytest would stay there.

python ray_nodes.py     prints the head's address, then does what each line of its input says
"""

from __future__ import annotations

import sys

from ray.cluster_utils import Cluster

ROOM = {"num_cpus": 1, "object_store_memory": 150 << 20, "include_dashboard": False}


def main() -> None:
    cluster, nodes = Cluster(initialize_head=True, head_node_args=dict(ROOM)), []
    print(cluster.address, flush=True)
    for line in sys.stdin:
        match line.split():
            case ["add"]:
                nodes.append(cluster.add_node(**ROOM))
            case ["kill"]:
                cluster.remove_node(nodes.pop(), allow_graceful=False)
            case ["behead"]:
                assert cluster.head_node is not None
                cluster.head_node.kill_gcs_server()
        print("done", flush=True)
    cluster.shutdown()


if __name__ == "__main__":
    main()
