"""Passes of a compiled model: few graphs serve every policy, with the numbers of plain passes."""

import pytest
import torch
from supernet_tasks import engine_of, floats, gradients, narrowed, task_of
from torch._dynamo.testing import CompileCounterWithBackend

from harness.training.supernet_task import KEPT_MEGABYTES

TERMS = (
    "train.distortion_weight=0.5",
    "train.dampening_weight=0.1",
    "train.dampening_start=0.3",
    "train.two_bit_weight_decay=0.001",
    "train.min_pass=true",
)


@pytest.fixture(autouse=True)
def compiled_anew():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def test_policies_and_present_candidates_compile_nothing_anew(batch):
    images, labels = batch
    plain, compiled = (task_of(1, *TERMS) for _ in range(2))
    counter = CompileCounterWithBackend("aot_eager")
    engines = engine_of(plain), engine_of(compiled)
    engines[1].model = torch.compile(compiled.model, backend=counter, fullgraph=True)
    assert [engine.is_compiled for engine in engines] == [False, True]
    graphs = []
    for step, progress in enumerate([0.1, 0.2, 0.5, 0.6, 0.7]):
        if step == 4:  # As the bit-width scheduler does.
            for task in (plain, compiled):
                task.candidates = narrowed(task.candidates)
        expected, found = (
            floats(task.run_passes(engine, images, labels, step=step, progress=progress).terms)
            for task, engine in zip((plain, compiled), engines, strict=True)
        )
        # A compiled pass keeps the features of every layer that may be compared.
        assert found.pop(KEPT_MEGABYTES) >= expected.pop(KEPT_MEGABYTES) > 0
        assert found == pytest.approx(expected, rel=1e-4)
        largest = max(one.abs().max() for one in gradients(plain))
        for ours, theirs in zip(gradients(compiled), gradients(plain), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5 * max(largest, 1.0))
        for task in (plain, compiled):
            task.model.zero_grad()
        graphs.append(counter.frame_count)
    # The max pass and the other passes, which at last dampen as well.
    assert graphs == [2, 2, 3, 3, 3]
