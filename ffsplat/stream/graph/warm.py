"""Everything that a graph does, done once on three poses, so that no frame waits for it."""

from ffsplat.alignment import Similarity
from ffsplat.stream.graph.edges import PoseError
from ffsplat.stream.graph.graph import PoseGraph


def warm_up() -> None:
    """Compile all kernels, or load them from numba's cache: a fraction of a second then."""
    graph, here, error = PoseGraph(), Similarity.identity(), PoseError(1.0, 1.0, 1.0)
    for node in range(3):
        graph.add_node(node, here)
        if node:
            graph.add_edge(node - 1, node, here, error)
    graph.add_edge(2, 0, here, error, loop=True)
    graph.optimize(fixed={0}, steps=1)
    graph.remove_node(1)
