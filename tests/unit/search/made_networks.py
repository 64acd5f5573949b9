"""Small networks of given sizes, first and last layer pinned."""

from harness.problem.network import LayerSpec, NetworkSpec


def layer(index: int, macs: int, weights: int, *, pinned: bool = False) -> LayerSpec:
    bits = (8,) if pinned else (6, 5, 4, 3, 2)
    return LayerSpec(
        name=f"layer{index}",
        kind="conv",
        macs=macs,
        weight_count=weights,
        is_depthwise=False,
        is_pinned=pinned,
        weight_candidates=bits,
        act_candidates=bits,
    )


def network_of(sizes: list[tuple[int, int]]) -> NetworkSpec:
    ends = (0, len(sizes) - 1)
    layers = tuple(layer(i, m, w, pinned=i in ends) for i, (m, w) in enumerate(sizes))
    return NetworkSpec(model_name="made", input_size=(3, 8, 8), num_classes=10, layers=layers)
