"""What the items are called, and what lifts one that does not pass."""

from __future__ import annotations

SINGLE_MACHINE = "C1 single-machine performance"
DATA_QUALITY = "C2 data clean and versioned"
BENCHMARK = "C3 benchmark on subsamples"
MONITORING = "C4 monitoring and rollback"
WORTH_IT = "C5 worth the cost"

WAYS_OUT = {
    SINGLE_MACHINE: (
        "mend the one-worker run first: `prepare` packs rows, resources.loader_workers reads ahead, a larger "
        "training.global_batch_size or bfloat16 uses what the machine still has"
    ),
    DATA_QUALITY: (
        "mend what was found at the source and prepare it again (the report shows the worst examples); `check-data` "
        "looks for wrong labels"
    ),
    BENCHMARK: "finish the sweep with at least 3 fractions and 2 seeds; one more fraction lets the forecast be tested",
    MONITORING: "run `drill`, which rehearses restart, restore and alert; channels stand in the config's alerts: key",
    WORTH_IT: "lower decision.min_gain_per_dollar, or find a cheaper run; `what-if` shows what either would change",
}
"""What lifts an item."""
