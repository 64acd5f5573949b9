"""A network of two free layers between two pinned ones, for tests of plain data."""

from harness.problem.network import LayerSpec, NetworkSpec

FREE = (6, 5, 4, 3, 2)


def layer(name: str, macs: int, *, pinned: bool = False) -> LayerSpec:
    bits = (8,) if pinned else FREE
    return LayerSpec(
        name=name, kind="conv", macs=macs, weight_count=macs // 3, is_depthwise=False,
        is_pinned=pinned, weight_candidates=bits, act_candidates=bits,
    )  # fmt: skip


NETWORK = NetworkSpec(
    model_name="small",
    input_size=(3, 8, 8),
    num_classes=10,
    layers=(layer("stem", 100, pinned=True), layer("a", 331), layer("b", 57),
            layer("fc", 40, pinned=True)),
)  # fmt: skip
