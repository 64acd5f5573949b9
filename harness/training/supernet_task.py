"""Train every bit-width of a supernet at once (arXiv 2401.01543, section 3).

A step has 1 + K passes, whose gradients add up:
1. the max pass: every layer at its largest candidates; its logits teach the others, or an
   external teacher's teach all;
2. K passes with random policies, at wish one more with the smallest candidates.
"""

import logging
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from harness.accuracy import count_wrong_by_policy
from harness.data import Splits, check_same_images, eval_batches
from harness.problem.candidates import Candidates
from harness.problem.policy import Policy
from harness.process_group import decided_by_rank_0
from harness.quant.convert import convert, describe_network
from harness.quant.dead import dead_layers
from harness.quant.execution import PolicyInputs
from harness.quant.operations import is_convolution
from harness.quant.supernet import Supernet
from harness.run.checkpoint_facts import candidates_in
from harness.run.config import Config
from harness.run.folder import RunDir
from harness.run.network_file import load_network, save_network
from harness.training.bit_scheduler import epochs_of_acts, freeze, freezing_ratio, standing
from harness.training.calibration import calibrate_step_sizes
from harness.training.distortion import FeatureDistortion, layers_at_fewest_bits
from harness.training.engine import Engine
from harness.training.float_task import build_float_network
from harness.training.losses import (
    LossTerm,
    PassContext,
    StepLosses,
    evaluate_terms,
    fit_of,
    max_pass_terms,
    random_pass_terms,
    two_bit_decay,
    weight_dampening,
)
from harness.training.policy_sampler import sample_policy
from harness.training.task import Task
from harness.training.teacher import build_teacher, check_same_teacher
from harness.training.weight_terms import TWO_BITS, WeightTerms
from harness.training.without_effect import warn_of_settings_without_effect

logger = logging.getLogger(__name__)

KEPT_MEGABYTES = "distortion_kept_megabytes"
"""Line of metrics.jsonl: what the features kept for the distortion took in the step."""

LOOKED_AT = 64
"""Training images that tell whether the input of a layer is always zero."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedPass:
    """One forward and backward pass of a step."""

    policy: Policy
    terms: Sequence[LossTerm]
    is_max_pass: bool = False
    decayed: Collection[int] = ()
    """Layers at 2 bits whose decay this pass changes: a step has one decay, whatever its passes."""


def build_supernet(config: Config, splits: Splits) -> Supernet:
    """Return a supernet with its initial weights, alike on every rank.

    Raises:
        ModelError: The model or its weights are not to be had.
        ConversionError: It has a module without a quantized form.
    """
    model = build_float_network(config, splits)
    network = describe_network(
        model,
        name=config.model.name,
        input_size=splits.input_size,
        num_classes=splits.num_classes,
        config=config.quant,
    )
    return convert(model, network)


def shown_policies(candidates: Candidates) -> dict[str, Policy]:
    """Return the largest and smallest policies and those with equal bits, by label."""
    ends = {"max": candidates.largest, "min": candidates.smallest}
    return {**ends, **candidates.equal_bits_policies}


class SupernetTask(Task):
    """A supernet in training.

    Attributes:
        model: The supernet.
        candidates: The bits that each layer may take at present.
    """

    model: Supernet

    def __init__(self, config: Config, splits: Splits, accelerator: Accelerator) -> None:
        super().__init__(build_supernet(config, splits))
        self.candidates = self.model.network.candidates
        self._config = config
        self._splits = splits
        self._accelerator = accelerator
        self._teacher = build_teacher(config, splits, accelerator)
        self._max_pass_terms = max_pass_terms(
            smoothing=config.train.label_smoothing, is_taught=self._teacher is not None
        )
        self._named_dead: set[str] = set()
        self._has_said_what_is_left_out = False
        self._acts = self._epochs_of_acts()
        warn_of_settings_without_effect(config.train, self.candidates)
        # The optimizer decays convolutions alone.
        self._decayed_layers = [
            at for at, layer in enumerate(self.model.layers) if is_convolution(layer)
        ]

    def run_passes(
        self, engine: Engine, images: Tensor, labels: Tensor, *, step: int, progress: float = 0.0
    ) -> StepLosses:
        """Run the planned passes in order; a term's value is the mean over the passes with it."""
        planned = self._plan(step, progress)
        features = self._features(planned, is_compiled=engine.is_compiled)
        counts = Counter(term.name for one in planned for term in one.terms)
        means: dict[str, Tensor] = {}
        minimised: list[Tensor] = []
        fits: list[Tensor] = []
        teacher = None if self._teacher is None else self._teacher(images)
        for one in planned:
            with engine.one_pass(is_last=one is planned[-1]):
                context = self._forward(engine, images, labels, one, teacher, features)
                loss, values = evaluate_terms(one.terms, context)
                engine.backward(loss)
            minimised.append(loss.detach())
            fits.append(fit_of(one.terms, values))
            teacher = context.logits.detach() if teacher is None else teacher
            for name, value in values.items():
                share = value / counts[name]
                means[name] = means[name] + share if name in means else share
        if features is not None:
            assert teacher is not None, "the max pass has run"
            kept = features.kept_bytes / 2**20
            means[KEPT_MEGABYTES] = torch.tensor(kept, device=teacher.device)
            self._say_what_is_left_out(features)
        return StepLosses(terms=means, passes=minimised, fits=fits)

    def passes(
        self, engine: Engine, *, step: int
    ) -> Sequence[tuple[str, Callable[[Tensor], Tensor]]]:
        """Return the passes with the policies that they were planned with."""
        words = self.model.network.candidates.in_words
        return [
            (f"the {name} ({words(policy)})", partial(self._logits, engine, policy))
            for name, policy in self._policies(step).items()
        ]

    def _logits(self, engine: Engine, policy: Policy, images: Tensor) -> Tensor:
        logits: Tensor = engine.model(images, self._encoded(policy, engine))
        return logits

    def _forward(
        self,
        engine: Engine,
        images: Tensor,
        labels: Tensor,
        one: PlannedPass,
        teacher: Tensor | None,
        features: FeatureDistortion | None,
    ) -> PassContext:
        """Run a pass; the max pass keeps its features for the others."""
        inputs, errors = self._encoded(one.policy, engine), dict[int, Tensor]()
        compared: Sequence[int] = ()
        if features is not None and one.is_max_pass:
            inputs = features.keeping(inputs)
        elif features is not None:
            compared = self._at_fewest_bits(one.policy)
            # A compiled graph compares every layer that any pass may have there.
            smallest = self.candidates.smallest
            shown = self._at_fewest_bits(smallest) if engine.is_compiled else compared
            inputs, errors = features.compared(inputs, shown)
        functions = {term.function for term in one.terms}
        weight_terms = None
        if functions & {weight_dampening, two_bit_decay}:
            weight_terms = WeightTerms(
                self.candidates,
                dampens=weight_dampening in functions,
                decays=two_bit_decay in functions,
            )
            bits, fewest = [weight for weight, _ in one.policy], None
            if engine.is_compiled:
                fewest = self._encoded(self.candidates.smallest, engine).rows
            inputs = weight_terms.watching(inputs, bits, decayed=one.decayed, fewest=fewest)
        return PassContext(
            logits=engine.model(images, inputs),
            labels=labels,
            teacher_logits=teacher,
            policy=one.policy,
            feature_errors=[errors[layer] for layer in compared if layer in errors],
            weight_terms=weight_terms,
        )

    def _encoded(self, policy: Policy, engine: Engine) -> PolicyInputs:
        """Return a policy as the model takes it."""
        if engine.is_compiled:
            return self.model.encode_as_tensors([policy])[0]
        return self.model.encode(policy)

    def _features(
        self, planned: Sequence[PlannedPass], *, is_compiled: bool
    ) -> FeatureDistortion | None:
        """Return what keeps the features that a step needs; None where distortion costs nothing."""
        config = self._config.train
        if not config.distortion_weight:
            return None
        policies = [one.policy for one in planned[1:]]
        if is_compiled:
            policies = [self.candidates.smallest]
        needed = {layer for policy in policies for layer in self._at_fewest_bits(policy)}
        return FeatureDistortion(sorted(needed), max_bytes=config.distortion_max_bytes)

    def _at_fewest_bits(self, policy: Policy) -> list[int]:
        """Return the layers that a policy has at their smallest weight candidate."""
        found = layers_at_fewest_bits(policy, self.candidates)
        return [layer for layer in found if layer in self.model.normalised_layers]

    def _say_what_is_left_out(self, features: FeatureDistortion) -> None:
        if features.num_left_out and not self._has_said_what_is_left_out:
            self._has_said_what_is_left_out = True
            logger.warning(
                "features of %d layers do not fit into train.distortion_max_bytes %d and are not "
                "drawn to those of the max pass; raise it, or train with smaller batches",
                features.num_left_out,
                self._config.train.distortion_max_bytes,
            )

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Return the accuracy of each uniform policy.

        BN statistics are re-estimated for each policy, as they are when a policy is reported.
        """
        assert isinstance(model, Supernet), "the averaged copy of a supernet is one"
        size = self._config.eval.batch_size
        batches = eval_batches(self._splits.search, batch_size=size)
        recalibration = eval_batches(
            self._splits.train, batch_size=size, limit=self._config.eval.recalibrate_images
        )
        self._name_dead_layers(model)
        policies = shown_policies(self.candidates)
        distinct = list(dict.fromkeys(policies.values()))
        wrong_counts = count_wrong_by_policy(model, distinct, batches, recalibration=recalibration)
        counts = dict(zip(distinct, wrong_counts, strict=True))
        return {name: 1 - counts[policy] / batches.num_images for name, policy in policies.items()}

    def _name_dead_layers(self, model: Supernet) -> None:
        """Warn of layers that compute nothing, each once."""
        if not self._accelerator.is_main_process:
            return
        images, _ = eval_batches(self._splits.train, batch_size=LOOKED_AT, limit=LOOKED_AT)[0]
        found = dead_layers(model.eval(), images.to(self._accelerator.device))
        for name, words in found.items():
            if name not in self._named_dead:
                logger.warning(
                    "layer %s computes nothing: %s; accuracies at these bits are those of a "
                    "network without it",
                    name,
                    words,
                )
        self._named_dead |= found.keys()

    def calibrate(self) -> None:
        """Set the step sizes of activations."""
        calibrate_step_sizes(self.model, self._splits, self._config, self._accelerator)

    def end_epoch(self, epoch: int) -> dict[str, float]:
        """Let the bit-width scheduler freeze candidates where it is time; rank 0 decides."""
        if not self._config.train.bit_scheduler:
            return {}
        if epoch not in self._acts:
            return standing(self.model, self.candidates)
        ratio = freezing_ratio(epoch, self._config.train.epochs)
        # Turbulence counts weights on either side of a threshold: ranks whose arithmetic differs in
        # a last bit could rank two layers differently.
        act = decided_by_rank_0(lambda: freeze(self.model, self.candidates, ratio=ratio))
        self.candidates = act.candidates
        logger.info("epoch %d, bit-width scheduler: %s", epoch, act.describe())
        return act.metrics()

    def state_dict(self) -> dict[str, Any]:
        """Return the present candidates, and the digest of the teacher where there is one."""
        rows = {"candidates": self.candidates.to_rows()}
        return rows if self._teacher is None else {**rows, "teacher": self._teacher.digest}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the candidates.

        Raises:
            CheckpointError: Another teacher taught the run.
        """
        check_same_teacher(state.get("teacher"), self._teacher, self._config)
        self.candidates = candidates_in(state, self.model.network)

    def check_description(self, run: RunDir) -> None:
        """Compare the images with `network.json`, where the run has one."""
        if run.network_path.is_file():
            there = load_network(run.network_path)
            check_same_images(
                self._splits,
                input_size=there.input_size,
                num_classes=there.num_classes,
                run=run.path,
            )

    def write_description(self, run: RunDir) -> None:
        """Write `network.json`."""
        save_network(run.network_path, self.model.network)

    def _epochs_of_acts(self) -> frozenset[int]:
        """Return the epochs at whose ends candidates change."""
        train = self._config.train
        if not train.bit_scheduler:
            return frozenset()
        return frozenset(epochs_of_acts(train.epochs, train.scheduler_start_epoch))

    def _plan(self, step: int, progress: float) -> list[PlannedPass]:
        """Return the passes of a step: the one that teaches the others comes first."""
        largest, *others = self._policies(step).values()
        max_pass = PlannedPass(policy=largest, terms=self._max_pass_terms, is_max_pass=True)
        planned, free = [max_pass], set(self._decayed_layers)
        for index, policy in enumerate(others):
            is_random = index < self._config.train.num_random_passes
            terms = random_pass_terms(
                self._config.train, progress=progress, name="random" if is_random else "min"
            )
            decayed = {at for at in free if policy.bits[at][0] == TWO_BITS}
            planned.append(PlannedPass(policy=policy, terms=terms, decayed=decayed))
            free -= decayed
        return planned

    def _policies(self, step: int) -> dict[str, Policy]:
        """Return the policies of a step by the names of their passes, in order."""
        seed, count = self._config.seed, self._config.train.num_random_passes
        policies = {"max pass": self.candidates.largest}
        for index in range(count):
            name = f"random pass {index + 1} of {count}"
            policies[name] = sample_policy(self.candidates, seed=seed, step=step, pass_index=index)
        if self._config.train.min_pass:
            policies["min pass"] = self.candidates.smallest
        return policies
