import sys

from ffsplat.stream.mapper import Mapper
from ffsplat.stream.settings import MapperSettings
from tests.stream.stub import Faults, StubPredictor
from tests.stream.test_stub import frames, walk

SMALL = MapperSettings(max_splats=10_000, max_submaps=12)


def signatures() -> dict[str, int]:
    """For how many types of arguments each kernel of the stream is compiled."""
    modules = [module for name, module in sys.modules.items() if name.startswith("ffsplat.stream")]
    return {
        f"{value.__module__}.{value.__name__}": len(value.signatures)
        for module in modules
        for value in vars(module).values()
        if hasattr(value, "signatures")
    }


def test_no_frame_waits_for_a_kernel_after_warming_up():
    one = Mapper(StubPredictor(walk().places, Faults(turn=0.3, depth=0.02), resolution=64), SMALL)
    one.warm()
    assert one.atlas is None
    before = signatures()
    reasons = []
    for frame in frames(*range(60)):
        reasons.append(one.add(frame.image, frame.time_ns, number=frame.number).reason)
        one.take_delta()
        if one.atlas is not None and len(one.atlas.keyframes) == 6:
            one._loop = next(iter(one.atlas.keyframes)).number
    one.scene()
    assert {"keyframe", "tracked"} <= set(reasons)
    assert signatures() == before
