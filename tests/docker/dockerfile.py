"""The Dockerfile, read as far as ours goes: its stages with their steps, and what the image says about its process.

An instruction that is not known here is an error: whoever adds one has to say what the tests make of it.
"""

import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).parents[2]

KNOWN = frozenset(
    {"ARG", "FROM", "RUN", "COPY", "WORKDIR", "ENV", "LABEL"}
    | {"USER", "VOLUME", "STOPSIGNAL", "HEALTHCHECK", "ENTRYPOINT", "CMD"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One instruction: `COPY --from=builder /a /b` has the options `from` and the text `/a /b`."""

    keyword: str
    text: str
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def words(self) -> list[str]:
        """Of the exec form (a JSON list) or of plain words."""
        return [str(word) for word in json.loads(self.text)] if self.text.startswith("[") else shlex.split(self.text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A FROM with what follows it."""

    base: str
    name: str
    steps: Sequence[Step]

    def only(self, keyword: str) -> Step:
        """The one step of this kind."""
        (found,) = [step for step in self.steps if step.keyword == keyword]
        return found

    def environment(self) -> dict[str, str]:
        """All ENV together; `$PATH` is left as it stands."""
        pairs = [pair for step in self.steps if step.keyword == "ENV" for pair in step.words]
        return dict(pair.split("=", 1) for pair in pairs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dockerfile:
    """All of it."""

    stages: Sequence[Stage]
    arguments: Mapping[str, str]

    @property
    def image(self) -> Stage:
        """The last stage, which is the image."""
        return self.stages[-1]

    @property
    def command(self) -> list[str]:
        """What `docker run` without a command of its own starts."""
        return [*self.image.only("ENTRYPOINT").words, *self.image.only("CMD").words]


def read(text: str) -> Dockerfile:
    """Raises ValueError for what is not known here."""
    arguments: dict[str, str] = {}
    stages: list[Stage] = []
    steps: list[Step] = []
    for step in _steps(text):
        if step.keyword == "ARG" and not stages:
            name, _, default = step.text.partition("=")
            arguments[name] = default
        elif step.keyword == "FROM":
            base, _, name = step.text.partition(" AS ")
            steps = []
            stages.append(Stage(base=_filled(base, arguments), name=name, steps=steps))
        else:
            steps.append(step)
    return Dockerfile(stages=stages, arguments=arguments)


def ours() -> Dockerfile:
    """The one of this repository."""
    return read((ROOT / "Dockerfile").read_text("utf-8"))


def _steps(text: str) -> Iterator[Step]:
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    for whole in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines():
        keyword, _, rest = whole.partition(" ")
        options: dict[str, str] = {}
        while match := re.match(r"--([a-z-]+)=(\S+)\s+", rest):
            options[match[1]] = match[2]
            rest = rest[match.end() :]
        if keyword not in KNOWN:
            raise ValueError(f"the tests do not know the instruction {keyword}")
        yield Step(keyword=keyword, text=rest.strip(), options=options)


def _filled(text: str, arguments: Mapping[str, str]) -> str:
    return re.sub(r"\$\{(\w+)\}", lambda match: arguments[match[1]], text)


def context(root: Path = ROOT) -> list[PurePosixPath]:
    """Files that a build is given: those that `.dockerignore` leaves. The last rule that matches a file decides.

    Folders that no rule can bring back (`.git`, an environment) are not walked through.
    """
    rules = [line.strip() for line in (root / ".dockerignore").read_text("utf-8").splitlines()]
    rules = [rule for rule in rules if rule and not rule.startswith("#")]
    wanted = {PurePosixPath(rule[1:]).parts[0] for rule in rules if rule.startswith("!")}
    if rules[0] != "*":
        raise ValueError("the first rule must be *, so that only what is named gets in")
    files = [
        file.relative_to(root)
        for name in sorted(wanted)
        for file in ([root / name] if (root / name).is_file() else sorted((root / name).rglob("*")))
        if file.is_file()
    ]
    return [PurePosixPath(file) for file in files if not ignored(PurePosixPath(file), rules)]


def ignored(path: PurePosixPath, rules: Sequence[str]) -> bool:
    """What the rules of a `.dockerignore` say of a file."""
    out = False
    for rule in rules:
        pattern = rule.removeprefix("!")
        if any(_matches(part, pattern) for part in (path, *path.parents)):
            out = not rule.startswith("!")
    return out


def _matches(path: PurePosixPath, pattern: str) -> bool:
    if pattern.startswith("**/"):
        return fnmatchcase(path.name, pattern.removeprefix("**/"))
    parts = PurePosixPath(pattern).parts
    return len(parts) == len(path.parts) and all(map(fnmatchcase, path.parts, parts))
