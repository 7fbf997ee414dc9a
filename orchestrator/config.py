"""temporary"""
from pathlib import Path
import yaml
from pydantic import TypeAdapter
from orchestrator.spec import ExperimentSpec
from orchestrator.tracking.records import to_plain
def _apply(raw, overrides):
    for o in overrides:
        k, v = o.split("=", 1); d = raw
        *path, last = k.split(".")
        for p in path: d = d[int(p)] if isinstance(d, list) else d.setdefault(p, {})
        if isinstance(d, list): d[int(last)] = yaml.safe_load(v)
        else: d[last] = yaml.safe_load(v)
    raw["models"] = [{"name": m["name"], "options": m.get("options") or {k: v for k, v in m.items() if k not in ("name", "options")}} for m in raw["models"]]
    return TypeAdapter(ExperimentSpec).validate_python(raw)
def load_config(path, overrides=()): return _apply(yaml.safe_load(Path(path).read_text()), overrides)
def override_spec(spec, overrides, source=""): return _apply(to_plain(spec), overrides)
def config_schema(): return {}
