from ffsplat.alignment import Similarity
from ffsplat.stream.graph import elimination, lie, sim3, solver
from ffsplat.stream.graph.warm import warm_up
from tests.stream.graph.test_graph import ERROR, circle, drift, relative, walk


def test_after_warming_up_nothing_is_left_to_compile():
    warm_up()
    kernels = [
        getattr(module, name)
        for module in (elimination, lie, sim3, solver)
        for name in vars(module)
        if hasattr(getattr(module, name), "signatures")
    ]
    before = [len(kernel.signatures) for kernel in kernels]
    truth = circle(9)
    graph = walk(truth, drift(scale=0.99))
    graph.add_edge(0, 8, relative(truth, 0, 8), ERROR, loop=True)
    graph.add_prior(4, Similarity.identity(), ERROR)
    fit = graph.fit(fixed={0})
    type(fit).from_state(fit.state()).run(3)
    fit.found()
    graph.optimize()
    graph.remove_node(3)
    assert [len(kernel.signatures) for kernel in kernels] == before
