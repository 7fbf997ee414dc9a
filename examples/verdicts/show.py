"""Every verdict, veto and override on evidence that was really measured, as the tool tells it.

    python examples/verdicts/show.py              what there is
    python examples/verdicts/show.py promote      one case: its question, the command, and what it prints
    python examples/verdicts/show.py --table      the table of README.md

A case of cases/ names the evidence it rests on, the keys it changes, and what must come out; tests/ hold it to that.
"""

import json
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

import yaml
from click.testing import CliRunner

from orchestrator.cli.main import cli

HERE = Path(__file__).resolve().parent
README = """\
# Verdicts by example

Each case asks one question of a sweep that was really run (`evidence/`, with the config it was measured by); nothing is
trained here. `python examples/verdicts/show.py NAME` prints the command and the verdict in full, and the tests hold
every case to the kind and the vetoes below.

{table}

A verdict that is held can be started all the same, by somebody who says why: the reason is recorded with the approval.

```
python -m orchestrator {override}
```

Evidence was measured by `python -m orchestrator sweep examples/verdicts/evidence/NAME/config.yaml`, from the root of
the repository, on two busy cores; of the journals only the folder of the prepared data was made relative, and their
lines were sealed anew. This page is made by `python examples/verdicts/show.py --table`.
"""


@dataclass(frozen=True)
class Case:
    """One file of cases/."""

    name: str
    question: str
    evidence: str
    overrides: tuple[str, ...]
    kind: str
    vetoes: frozenset[str]
    then: tuple[str, ...] = ()
    """What is done with the verdict: a command, without the experiment's name."""

    @property
    def folder(self) -> Path:
        return HERE / "evidence" / self.evidence

    def command(self, folder: str) -> list[str]:
        return ["decide", folder, *self.overrides]


def load_cases() -> dict[str, Case]:
    """All cases by name, in the order of the table."""
    found = [load_case(path) for path in sorted((HERE / "cases").glob("*.yaml"))]
    order = ("PROMOTE", "HOLD", "REJECT")
    found.sort(key=lambda case: (bool(case.then), order.index(case.kind), case.name))
    return {case.name: case for case in found}


def load_case(path: Path) -> Case:
    """One file; its first comment is the question."""
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    comment = lines[: next(i for i, line in enumerate(lines) if not line.startswith("#"))]
    asked = yaml.safe_load(text)
    return Case(
        name=path.stem,
        question=" ".join(line.removeprefix("#").strip() for line in comment),
        evidence=asked["evidence"],
        overrides=tuple(asked["decide"]),
        kind=asked["expect"]["kind"],
        vetoes=frozenset(asked["expect"]["vetoes"]),
        then=tuple(asked.get("then", ())),
    )


def run(arguments: list[str]) -> str:
    """What the command prints. Raises SystemExit with its own words where it fails."""
    done = CliRunner().invoke(cli, arguments)
    if done.exit_code:
        raise SystemExit(f"{shlex.join(arguments)}: {done.stderr.strip() or done.exception!r}")
    return done.stdout


def verdict_of(case: Case) -> tuple[str, frozenset[str]]:
    """Kind and names of the vetoes, as the tool decides today."""
    verdict = json.loads(run([*case.command(str(case.folder)), "--format", "json"]))
    return verdict["kind"], frozenset(veto["name"] for veto in verdict["vetoes"])


def shown(case: Case) -> str:
    """Question, command and answer."""
    command = case.command(f"examples/verdicts/evidence/{case.evidence}")
    parts = [f"# {case.question}", f"$ python -m orchestrator {shlex.join(command)}"]
    parts.append(run(case.command(str(case.folder))))
    if case.then:
        parts.append(f"$ python -m orchestrator {shlex.join(then_of(case))}")
    return "\n".join(parts)


def then_of(case: Case) -> list[str]:
    """The command that acts on the verdict."""
    verb, *options = case.then
    return [verb, case.evidence, *options]


def readme() -> str:
    """README.md, with what the tool decides today."""
    rows = ["| case | question | evidence | verdict | held back by |", "|---|---|---|---|---|"]
    cases = load_cases()
    for case in cases.values():
        kind, vetoes = verdict_of(case)
        act = f", then `{case.then[0]} {case.then[1]}`" if case.then else ""
        link = f"[{case.name}](cases/{case.name}.yaml)"
        evidence = f"[{case.evidence}](evidence/{case.evidence}/config.yaml)"
        rows.append(f"| {link} | {case.question} | {evidence} | {kind}{act} | {', '.join(sorted(vetoes))} |")
    (override,) = [case for case in cases.values() if case.then]
    return README.format(table="\n".join(rows), override=shlex.join(then_of(override)))


def main() -> None:
    cases = load_cases()
    asked = sys.argv[1:]
    if asked == ["--table"]:
        print(readme(), end="")
    elif not asked:
        print("\n".join(f"{name:<28} {case.question}" for name, case in cases.items()))
    elif unknown := [name for name in asked if name not in cases]:
        raise SystemExit(f"no case {', '.join(unknown)}; there are: {', '.join(cases)}")
    else:
        print("\n\n".join(shown(cases[name]) for name in asked))


if __name__ == "__main__":
    main()
