"""Made-up journals: which policies are scored in which batch, and with which scores."""

import random

from made_networks import network_of

from harness.search.journal import Journal

NETWORK = network_of([(1, 1)] * 4)
CANDIDATES = NETWORK.candidates
HEADER = {"network": "296952132d043836", "images": 100, "score": "kl", "data": {"channels": 1}}
NUM_FOLDS = 3
FIRST_SEARCH, OTHER_SEARCH = "00000000000000aa", "bbbbbbbbbbbbbbbb"


def policies_of(num_policies, *, seed=0):
    """Different policies in an order of their own."""
    rng = random.Random(seed)
    found = {}
    while len(found) < num_policies:
        found[CANDIDATES.sample(rng.randrange)] = None
    return list(found)


def scores_of(policy):
    """Scores that depend on the policy alone, and need all digits of a float."""
    rng = random.Random(str(policy.bits))
    return tuple(rng.random() * 10 ** rng.randrange(-9, 9) for _ in range(NUM_FOLDS))


def wrong_of(batch):
    """How many images each policy of a batch has wrong, by the policy alone."""
    return {policy: random.Random(str(policy.bits)).randrange(100) for policy in batch}


def batches_of(num_batches, *, most=3, seed=0):
    """Batches of one to `most` policies with their scores, each policy once."""
    rng = random.Random(seed)
    policies = policies_of(num_batches * most, seed=seed)
    batches = []
    for _ in range(num_batches):
        taken = [policies.pop() for _ in range(rng.randint(1, most))]
        batches.append({policy: scores_of(policy) for policy in taken})
    return batches


def journal_at(path, header=None, **keywords):
    keywords = {"num_folds": NUM_FOLDS, **keywords}
    return Journal(path, HEADER if header is None else header, CANDIDATES, **keywords)


def written(path, batches, **keywords):
    """A journal with these batches."""
    journal = journal_at(path, **keywords)
    journal.recover()
    for batch in batches:
        journal.append(FIRST_SEARCH, batch, wrong_of(batch))
    return journal


def batches_in(records):
    return [record.scores for record in records]
