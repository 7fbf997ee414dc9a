"""Configs: what is understood, and how what is not is told."""

from __future__ import annotations

import copy
import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from orchestrator.config import config_schema, load_config, override_spec
from orchestrator.errors import ConfigError
from orchestrator.spec import ExperimentSpec, ModelSpec

CONFIGS = Path(__file__).parent.parent / "configs"

GOOD: dict[str, Any] = {
    "name": "digits",
    "task": "orchestrator.tasks.vision:image_classification",
    "data": {"source": "sklearn:digits"},
    "models": [{"name": "linear"}, {"name": "cnn", "width": 16}],
    "training": {"learning_rate": 0.003, "early_stopping": {"patience": 4}},
    "sweep": {"fractions": [0.05, 0.1, 0.2], "workers": [1, 2], "seeds": 3},
    "pricing": {"usd_per_worker_hour": 0.1},
    "full_run": {"workers": [1, 2]},
    "decision": {"min_gain_per_dollar": 0.5},
}


def config(tmp_path: Path, text: str | bytes | None = None, **changes: Any) -> Path:
    """A config file: the given text, or the good one with values replaced at dotted keys (``__`` for the dot)."""
    tree = copy.deepcopy(GOOD)
    for key, value in changes.items():
        place: Any = tree
        *above, last = key.split("__")
        for part in above:
            place = place[int(part)] if isinstance(place, list) else place.setdefault(part, {})
        place[last] = value
    path = tmp_path / "config.yaml"
    path.write_bytes(text if isinstance(text, bytes) else (text or yaml.safe_dump(tree)).encode())
    return path


def faults(path: Path, *overrides: str) -> dict[str, str]:
    """Key and message of every fault."""
    with pytest.raises(ConfigError) as caught:
        load_config(path, overrides)
    assert caught.value.exit_code == 2
    assert caught.value.source == str(path)
    found = {fault.key: fault.message for fault in caught.value.faults}
    assert len(found) == len(caught.value.faults), "a key is told once"
    return found


def only(found: dict[str, str], key: str) -> str:
    assert list(found) == [key]
    return found[key]


# --- what is understood ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.name)
def test_our_own_configs_load_and_keep_the_schema(path: Path) -> None:
    spec = load_config(path)

    jsonschema.validate(yaml.safe_load(path.read_text()), config_schema())
    assert override_spec(spec, [], source="again") == spec


def test_a_models_options_stand_beside_its_name(tmp_path: Path) -> None:
    spec = load_config(config(tmp_path))

    assert spec.models == (ModelSpec(name="linear"), ModelSpec(name="cnn", options={"width": 16}))


def test_a_whole_number_is_a_number_and_lists_become_tuples(tmp_path: Path) -> None:
    spec = load_config(config(tmp_path, pricing__usd_per_worker_hour=1))

    assert spec.pricing.usd_per_worker_hour == 1.0
    assert isinstance(spec.pricing.usd_per_worker_hour, float)
    assert spec.sweep.workers == (1, 2)


@pytest.mark.parametrize(
    ("written", "value"), [("1e-3", 0.001), ("1E+2", 100.0), (".5", 0.5), ("5.", 5.0), ("1_000", 1000.0), ("+2", 2.0)]
)
def test_numbers_are_read_as_yaml_1_2_writes_them(tmp_path: Path, written: str, value: float) -> None:
    assert load_config(config(tmp_path), [f"training.learning_rate={written}"]).training.learning_rate == value


@pytest.mark.parametrize("written", ["1:30", "010", "2026-01-01", "1.2.3", "0x1p3"])
def test_what_only_yaml_1_1_takes_for_a_number_or_date_is_text(tmp_path: Path, written: str) -> None:
    message = only(faults(config(tmp_path), f"full_run.deadline_h={written}"), "full_run.deadline_h")

    assert message.startswith(f"must be a number, got '{written}'")


def test_merge_keys_and_aliases_work_and_stay_apart_under_overrides(tmp_path: Path) -> None:
    text = yaml.safe_dump({k: v for k, v in GOOD.items() if k not in {"sweep", "full_run"}})
    text += "sweep: {fractions: [0.1], workers: &w [1, 2]}\nfull_run: {workers: *w}\n"

    spec = load_config(config(tmp_path, text), ["sweep.workers.1=4"])

    assert (spec.sweep.workers, spec.full_run.workers) == ((1, 4), (1, 2))


def test_overrides_set_values_list_entries_and_sections_that_were_left_out(tmp_path: Path) -> None:
    spec = load_config(
        config(tmp_path),
        [
            "sweep.seeds=5",
            "models.1.width=8",
            "models.0.bias=false",
            "budget.max_cost_usd=3",
            "full_run.checkpoint.keep=1",
        ],
    )

    assert spec.sweep.seeds == 5
    assert [model.options for model in spec.models] == [{"bias": False}, {"width": 8}]
    assert (spec.budget.max_cost_usd, spec.full_run.checkpoint.keep) == (3.0, 1)


def test_the_later_of_two_overrides_wins(tmp_path: Path) -> None:
    assert load_config(config(tmp_path), ["sweep.seeds=5", "sweep.seeds=6"]).sweep.seeds == 6


def test_a_stored_spec_takes_overrides_and_names_its_experiment_in_faults(tmp_path: Path) -> None:
    spec = load_config(config(tmp_path))

    assert override_spec(spec, ["decision.min_gain_per_dollar=2"], source="digits").decision.min_gain_per_dollar == 2
    with pytest.raises(
        ConfigError, match=r"^digits: 1 fault\n  decision.confidence: must lie between 0.5 and 1, got 2"
    ):
        override_spec(spec, ["decision.confidence=2"], source="digits")


def test_the_schema_describes_every_key_that_has_a_sentence() -> None:
    schema = config_schema()

    jsonschema.Draft202012Validator.check_schema(schema)
    assert "training pool" in schema["$defs"]["SweepSpec"]["properties"]["fractions"]["description"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**GOOD, "taks": 1}, schema)
    jsonschema.validate(GOOD, schema)


def test_importing_the_module_does_not_import_pydantic() -> None:
    code = "import sys, orchestrator.config; sys.exit('pydantic' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- wrong values ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("sweep.seeds", "three", "must be a whole number, got 'three'"),
        ("sweep.seeds", "3", "must be a whole number, got '3'"),
        ("sweep.seeds", True, "must be a whole number, got true"),
        ("sweep.seeds", 3.0, "must be a whole number, got 3.0"),
        ("sweep.seeds", None, "is empty; it must be a whole number"),
        ("training.learning_rate", "fast", "must be a number, got 'fast'"),
        ("training.learning_rate", float("inf"), "must be a finite number, got inf"),
        ("training.learning_rate", float("nan"), "must be a finite number, got nan"),
        ("name", 7, "must be text, got 7; put it in quotes"),
        ("data.source", False, "must be text, got false; put it in quotes"),
        ("sweep.fractions", 0.5, "must be a list, each entry a number, got 0.5"),
        ("sweep.workers.1", "2", "must be a whole number, got '2'"),
        ("decision.metric", "acuracy", "must be 'accuracy' or 'loss', got 'acuracy'; did you mean 'accuracy'?"),
        ("decision.baseline", "best", "must be a number or 'best_trial', got 'best'"),
        ("pricing.purchase", ["spott"], "must be 'on_demand', 'spot' or 'reserved', got 'spott'; did you mean 'spot'?"),
        ("models.0", "linear", "must be a mapping such as {name: linear}, got 'linear'"),
        ("models.1.width", [1], "must be a single value (number, text, true or false), got [1]"),
        ("budget", 5, "must be a mapping with the keys max_cost_usd, got 5"),
        ("training", None, "is empty; it must be a mapping with the keys epochs, global_batch_size"),
        ("sweep.fractions", [0.2, 0.1], "must rise without repeats, got [0.2, 0.1]; write [0.1, 0.2]"),
        ("sweep.fractions", [0.2, 20], "must lie in (0, 1], got 20 (0.2 means 20%)"),
        ("full_run.fraction", 0.1, "is 0.1, below the largest swept fraction 0.2"),
        ("training.global_batch_size", 1, "is 1, too few for 2 workers"),
        ("task", "vision", "must read module:function, got 'vision'"),
    ],
)
def test_a_wrong_value_is_named_with_what_would_be_right(tmp_path: Path, key: str, value: Any, message: str) -> None:
    tree = copy.deepcopy(GOOD)
    place: Any = tree
    *above, last = key.split(".")
    for part in above:
        place = place[int(part)] if isinstance(place, list) else place.setdefault(part, {})
    place[int(last) if isinstance(place, list) else last] = value

    found = faults(config(tmp_path, yaml.safe_dump(tree)))

    told = only(found, "pricing.purchase.0" if key == "pricing.purchase" else key)
    assert told.startswith(message)


def dotted_keys(record: type, prefix: str = "") -> list[str]:
    """Keys of a record and of the records in it that the good config spells out."""
    return [f"{prefix}{field.name}" for field in dataclasses.fields(record)]


@pytest.mark.parametrize("key", ["name", "task", "data", "models", "sweep", "pricing", "decision"])
def test_a_missing_section_is_the_only_fault(tmp_path: Path, key: str) -> None:
    tree = {name: value for name, value in GOOD.items() if name != key}

    assert only(faults(config(tmp_path, yaml.safe_dump(tree))), key).startswith("is missing; it must be ")


def test_a_missing_key_comes_with_its_description(tmp_path: Path) -> None:
    message = only(faults(config(tmp_path, sweep={"seeds": 3})), "sweep.fractions")

    assert message.startswith("is missing; it must be a list, each entry a number: Shares of the training pool")


def test_an_empty_section_below_an_optional_one_names_what_is_missing(tmp_path: Path) -> None:
    message = only(faults(config(tmp_path, training__early_stopping={})), "training.early_stopping.patience")

    assert message == "is missing; it must be a whole number"


@pytest.mark.parametrize("bad", ["", [{}], True, {"nope": 1}], ids=str)
@pytest.mark.parametrize("key", dotted_keys(ExperimentSpec))
def test_a_fault_in_one_section_never_leads_to_a_fault_told_of_another(tmp_path: Path, key: str, bad: object) -> None:
    """What stands in for a refused value must agree with everything else."""
    found = faults(config(tmp_path, yaml.safe_dump({**GOOD, key: bad})))

    assert {name.split(".")[0] for name in found} == {key}


def test_every_fault_is_told_at_once(tmp_path: Path) -> None:
    """Types, unknown and missing keys, records' own rules on several levels, and rules between records."""
    found = faults(
        config(
            tmp_path,
            name="a b",
            taks=1,
            data={"source": " ", "imge": "x", "validation_fraction": 2},
            models=[{"name": "linear"}, {"width": 3}, {"name": "c d"}],
            sweep={"fractions": [0.1, "x", 3], "seeds": "three", "scaling_seeds": 2, "stratgy": "grid"},
            pricing={"instance": "x"},
            decision={"metric": "acc", "baseline": 7, "confidence": 2},
        )
    )

    assert set(found) == {
        "name", "taks", "data.source", "data.imge", "data.validation_fraction", "models.1.name", "models.2.name",
        "sweep.fractions.1", "sweep.fractions", "sweep.seeds", "sweep.stratgy", "pricing.instance", "pricing.region",
        "decision.metric", "decision.confidence", "decision.min_gain_per_dollar",
    }  # fmt: skip
    assert found["data.imge"].startswith("unknown key; did you mean 'image'? data takes: source, label, image")
    assert found["sweep.stratgy"].startswith("unknown key; did you mean 'strategy'? sweep takes: fractions, ")


def test_the_message_lists_faults_one_a_line_under_the_file(tmp_path: Path) -> None:
    path = config(tmp_path, sweep__seeds="three", taks=1)

    with pytest.raises(ConfigError) as caught:
        load_config(path)

    lines = str(caught.value).splitlines()
    assert lines[0] == f"{path}: 2 faults"
    assert lines[1] == "  sweep.seeds: must be a whole number, got 'three'"
    assert lines[2].startswith("  taks: unknown key; did you mean 'task'? a config takes: name, task, ")


def test_a_key_in_the_wrong_section_is_told_where_it_belongs(tmp_path: Path) -> None:
    message = only(faults(config(tmp_path, seeds=3)), "seeds")

    assert message.startswith("unknown key; did you mean sweep.seeds? a config takes: ")


# --- overrides ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "key", "message"),
    [
        ("sweep.seeds", "sweep.seeds", "must read key=value, e.g. sweep.seeds=5"),
        ("=3", "=3", "must read key=value"),
        ("sweep.sedes=3", "sweep.sedes", "unknown key; did you mean 'seeds'? sweep takes: fractions, workers, seeds"),
        ("seeds=3", "seeds", "unknown key; did you mean sweep.seeds?"),
        ("swep.seeds=3", "swep.seeds", "unknown key; did you mean 'sweep'?"),
        ("models.7.width=3", "models.7.width", "there is no models.7; models is a list with the entries 0 to 1"),
        (
            "sweep.workers.x=3",
            "sweep.workers.x",
            "sweep.workers is a list; name an entry by its index: sweep.workers.0",
        ),
        ("name.x=3", "name.x", "name holds no keys"),
        ("sweep.seeds=[3", "sweep.seeds", "the value '[3' is not YAML: line 1, column 3"),
        ("budget={max_cost_usd: 1, max_cost_usd: 2}", "max_cost_usd", "stands twice, on line 1; keep one"),
        (
            "sweep.seeds=three",
            "sweep.seeds",
            "must be a whole number, got 'three' (from the override 'sweep.seeds=three')",
        ),
        ("sweep={fractions: [2]}", "sweep.fractions", "must lie in (0, 1], got 2 (0.2 means 20%) (from the override"),
        ("sweep.seeds=0", "sweep.seeds", "must be at least 1, got 0 (from the override 'sweep.seeds=0')"),
    ],
)
def test_a_wrong_override_is_refused(tmp_path: Path, override: str, key: str, message: str) -> None:
    found = faults(config(tmp_path), override)

    assert found[key if key != "max_cost_usd" else "budget"].startswith(message)


def test_an_override_below_a_value_that_is_no_section_is_refused(tmp_path: Path) -> None:
    found = faults(config(tmp_path, training="fast"), "training.epochs=3")

    assert found["training.epochs"] == "cannot be set, because training is 'fast'; set training as a whole"
    assert found["training"].startswith("must be a mapping")


# --- the file itself ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"# nothing\n", "is empty; it must be a mapping with the keys name, task, data, models"),
        (b"", "is empty"),
        (b"- a\n- b\n", "holds a list; it must be a mapping"),
        (b"hello\n", "holds only the value 'hello'; it must be a mapping"),
        (b"name: [a\nb: 2\n", "is not YAML: line 2, column 2: expected ',' or ']', but got ':'"),
        (b"name: a\n\ttask: b\n", "is not YAML: line 2, column 1: found character '\\t' that cannot start any token"),
        (b"name: a\n--- \nname: b\n", "is not YAML: line 2, column 1: but found another document"),
        (b"name: *nothing\n", "is not YAML: line 1, column 7: found undefined alias 'nothing'"),
        (b"name: caf\xe9\n", "is not UTF-8 text (byte 0xe9 at offset 9); save it as UTF-8"),
        (b"PAR1\x15\x04\x15\x80", "is not UTF-8 text (byte 0x80 at offset 7)"),
        (b"name: a\x00b\n", "is not YAML: unacceptable character #x0000"),
        (b"[" * 5000, "cannot be read as YAML"),
    ],
)
def test_a_file_that_is_no_config_is_refused_in_one_line(tmp_path: Path, text: bytes, message: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(text)

    assert only(faults(path), "").startswith(message)


def test_a_byte_order_mark_does_no_harm(tmp_path: Path) -> None:
    assert load_config(config(tmp_path, b"\xef\xbb\xbf" + yaml.safe_dump(GOOD).encode())).name == "digits"


def test_repeated_keys_are_refused_with_their_lines(tmp_path: Path) -> None:
    text = json.dumps(GOOD)[:-1] + ',\n"name": "again",\n"sweep": {"seeds": 1,\n"seeds": 2, "fractions": [0.1]}}'

    found = faults(config(tmp_path, text))

    assert found == {
        "name": "stands twice, on lines 1 and 2; keep one",
        "sweep": "stands twice, on lines 1 and 3; keep one",
        "sweep.seeds": "stands twice, on lines 3 and 4; keep one",
    }


@pytest.mark.parametrize(
    ("text", "key", "message"),
    [
        ("name: !!python/object:os.system x\n", "name", "has the tag 'tag:yaml.org,2002:python/object:os.system'"),
        ("name: !!binary aGk=\n", "name", "has the tag 'tag:yaml.org,2002:binary'"),
        ("data: {? [a] : 1}\n", "data", "line 1: a key must be a word, not a list or mapping"),
        ("name: &a [*a]\n", "", "its aliases (*name) repeat too much, or hold themselves"),
        ("a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
            f"{c}: &{c} [{','.join(9 * ['*' + b])}]\n" for b, c in zip("abcdefgh", "bcdefghi", strict=True)
        ), "", "its aliases (*name) repeat too much"),
    ],
    ids=["python object", "binary", "list as key", "holds itself", "a billion"],
)  # fmt: skip
def test_yaml_that_a_config_cannot_hold_is_refused(tmp_path: Path, text: str, key: str, message: str) -> None:
    assert only(faults(config(tmp_path, text)), key).startswith(message)


def test_a_missing_file_is_met_with_those_that_are_there(tmp_path: Path) -> None:
    (tmp_path / "vision.yaml").touch()
    (tmp_path / "cifar10.yaml").touch()

    message = only(faults(tmp_path / "visoin.yaml"), "")

    assert message == f"is not there; did you mean 'vision.yaml'? {tmp_path} holds: cifar10.yaml, vision.yaml"


def test_a_missing_file_unlike_any_other_and_a_missing_folder_are_told(tmp_path: Path) -> None:
    folder = tmp_path / "no" / "config.yaml"

    assert only(faults(tmp_path / "x.yaml"), "") == f"is not there; {tmp_path} holds: no .yaml file"
    assert only(faults(folder), "") == f"is not there, and neither is the folder {folder.parent}"


def test_a_folder_is_refused_with_the_configs_in_it(tmp_path: Path) -> None:
    config(tmp_path)

    assert only(faults(tmp_path), "") == "is a folder; name a file in it: config.yaml"
