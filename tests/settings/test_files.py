from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from optimizer.errors import ConfigError
from optimizer.settings import load, load_text
from optimizer.settings.load import MAX_BYTES
from optimizer.settings.model import FileSourceSettings
from optimizer.settings.values import Duration, short

PATH = Path("/etc/llmopt/optimizer.yaml")

ONE_TARGET = """
integrations:
  gateways: [{kind: file, name: files, directory: out}]
targets:
  - name: support
    baseline: large
    arms:
      - {name: large, model: m1}
      - {name: small, model: m2}
"""


def refusal(text: str, environment: dict[str, str] | None = None) -> str:
    with pytest.raises(ConfigError) as found:
        load_text(text, PATH, environment or {})
    return str(found.value)


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "null\n", "{}\n"])
def test_an_empty_file_is_all_defaults(text: str) -> None:
    settings = load_text(text, PATH, {}).settings

    assert settings.service.port == 4200
    assert settings.targets == []


def test_a_partial_file_keeps_the_other_defaults() -> None:
    settings = load_text("service: {port: 4300}\n", PATH, {}).settings

    assert (settings.service.port, settings.service.host) == (4300, "127.0.0.1")
    assert settings.database.max_connections == 10


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("databse: {}", f"{PATH}:1: databse: unknown key; did you mean 'database'?"),
        (
            "database:\n  tmeout_secs: 3",
            f"{PATH}:2: database.tmeout_secs: unknown key; did you mean 'timeout_secs'?",
        ),
        (
            "service: {qqq: 1}",
            f"{PATH}:1: service.qqq: unknown key; known here: host, port",
        ),
        (
            "service:\n  port: 99999",
            f"{PATH}:2: service.port = 99999: input should be less than or equal to 65535",
        ),
        (
            "integrations:\n  sources:\n    - kind: file\n      name: a",
            f"{PATH}:3: integrations.sources[0].paths: is required and absent",
        ),
        (
            "integrations:\n  sources:\n    - {name: a}",
            f"{PATH}:3: integrations.sources[0].kind: is required and absent",
        ),
        (
            "defaults:\n  cooldown: 30",
            (
                f"{PATH}:2: defaults.cooldown = 30: must be a duration with a unit, such as 90s, "
                "30m, 6h or 2d, of at most 36500d"
            ),
        ),
        (
            "integrations:\n  intake: {lateness: -5m}",
            f"{PATH}:2: integrations.intake.lateness = '-5m': must be a duration",
        ),
        (
            "strategies: {cost_performance: {min_saving: .nan}}",
            "strategies.cost_performance.min_saving = nan: input should be a finite number",
        ),
        ("service: {host: 1}", "service.host = 1: must be text; write it in quotes"),
        (
            "integrations: {sources: [{kind: file, name: a, paths: [x], timezone: Mars/Olympus}]}",
            "integrations.sources[0].timezone = 'Mars/Olympus': there is no time zone",
        ),
        (
            "integrations: {sources: [{kind: file, name: a, paths: [x], columns: {latency: t}}]}",
            "'latency' is no column of calls; did you mean 'latency_ms'?",
        ),
        (
            (
                "integrations:\n  sources: [{kind: sql, name: a, url: x, cursor_column: c, "
                "id_column: i}]"
            ),
            "exactly one of table and query is needed",
        ),
        (
            (
                "integrations: {sources: [{kind: file, name: a, paths: [x]}, "
                "{kind: file, name: a, paths: [y]}]}"
            ),
            "sources need unique names; a appears more than once",
        ),
        (
            "defaults: {freezes: [{start: 2026-01-02T00:00:00Z, end: 2026-01-01T00:00:00Z}]}",
            "is not before end",
        ),
        (
            "defaults: {freezes: [{start: 2026-01-01 00:00:00, end: 2026-01-02T00:00:00Z}]}",
            "defaults.freezes[0].start",
        ),
    ],
)
def test_a_mistake_is_named_with_file_line_path_value_and_bound(text: str, message: str) -> None:
    assert message in refusal(text)


def test_every_problem_is_named_at_once() -> None:
    told = refusal("service: {port: 0}\ndatabase: {engine_threads: 0, max_conections: 1}\n")

    assert len(told.splitlines()) == 3


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("name: small", "name: large", "targets[0].arms[1].name: two arms of the name 'large'"),
        (
            "baseline: large",
            "baseline: larg",
            (
                "targets[0].baseline: 'larg' is none of the target's arms ['large', 'small']; "
                "did you mean 'large'?"
            ),
        ),
        (
            "baseline: large",
            "baseline: large\n    gateway: fils",
            "targets[0].gateway: 'fils' is none of the gateways ['files']; did you mean 'files'?",
        ),
        (
            "baseline: large",
            "baseline: large\n    stages: [{share: 0.2}, {share: 0.1}]",
            "targets[0].stages[1].share: 0.1 is not above the stage before it, 0.2: shares grow",
        ),
        (
            "baseline: large",
            (
                "baseline: large\n    guardrails: [{metric: quality, margin: 0.1}, "
                "{metric: quality, margin: 0.2}]"
            ),
            "targets[0].guardrails[1].metric: two guardrails of the metric 'quality'",
        ),
        ("name: support", "name: '-x'", "targets[0]: target name '-x' must be"),
        (
            "baseline: large",
            "baseline: large\n    guardrails: [{metric: quality, margin: 0.1, tolerance: 0.5}]",
            "targets[0]: tolerance of quality = 0.5 lies outside [0.0, 0.1]",
        ),
        (
            "model: m2",
            "model: m2, params: {at: 2026-01-01}",
            "targets[0].arms[1].params: must hold only what JSON can",
        ),
    ],
)
def test_what_the_core_would_refuse_is_refused_with_its_place(
    old: str, new: str, message: str
) -> None:
    assert message in refusal(ONE_TARGET.replace(old, new, 1))


def test_a_target_without_a_gateway_is_refused() -> None:
    told = refusal(ONE_TARGET.replace("[{kind: file, name: files, directory: out}]", "[]"))

    assert f"{PATH}:5: targets[0].gateway: is needed, because none is configured" in told


def test_two_targets_of_one_name_are_refused() -> None:
    twice = ONE_TARGET + ONE_TARGET.partition("targets:\n")[2]

    assert "targets[1].name: two targets of the name 'support'" in refusal(twice)


def test_limits_of_all_targets_are_checked_without_any_target_and_told_once() -> None:
    wrong = "\ndefaults: {stages: [{share: 0.2}, {share: 0.2}]}\n"

    alone, among = refusal(wrong), refusal(ONE_TARGET + wrong)

    assert alone.count("defaults.stages[1].share") == 1
    assert len(among.splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\na: 2", f"{PATH}:2: a: the key is written twice"),
        ("service:\n  port: 1\n  port: 2", f"{PATH}:3: service.port: the key is written twice"),
        ("- a\n- b", f"{PATH}:1: the file must be a mapping of sections, not a list"),
        ("text", f"{PATH}:1: the file must be a mapping of sections, not a single value"),
        ("service:\n\tport: 1", f"{PATH}:2: not YAML: indented with a tab; use spaces"),
        ("service: {port: 1", f"{PATH}:"),
        ("a: b: c", f"{PATH}:1: not YAML"),
        ("service: !!python/object:os.system {}", "is not understood"),
        ("service: {on: 1}", f"{PATH}:1: service: a key here is not text; write it in quotes"),
        ("service: &s {x: *s}", "does an anchor contain itself?"),
        ("service: {<<: 3}", "<< takes a mapping or a list of mappings"),
        ("defaults: {freezes: [{start: 2026-99-99}]}", "not a value of its kind"),
        ("a: \x00", f"{PATH}:1: not YAML"),
    ],
)
def test_text_that_is_no_configuration_is_refused_with_its_line(text: str, message: str) -> None:
    assert message in refusal(text)


@pytest.mark.slow
def test_anchors_that_multiply_without_bound_are_refused() -> None:
    doubled = "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 40))

    assert "more than" in refusal(f"a0: &a0 [1, 1]\n{doubled}")


def test_anchors_and_merge_keys_work_and_own_keys_win() -> None:
    text = """
integrations:
  gateways:
    - &one {kind: file, name: a, directory: x, expires_after: 1h}
    - {<<: *one, name: b}
    - <<: [{expires_after: 2h}, *one]
      name: c
"""
    gateways = load_text(text, PATH, {}).settings.integrations.gateways

    assert [g.name for g in gateways] == ["a", "b", "c"]
    assert [g.expires_after for g in gateways] == [timedelta(hours=h) for h in (1, 1, 2)]


def test_a_value_behind_an_anchor_is_changed_in_one_place_only() -> None:
    text = """
integrations:
  gateways:
    - &one {kind: file, name: a, directory: x}
    - {<<: *one, name: b}
"""
    variable = {"OPTIMIZER_INTEGRATIONS__GATEWAYS__0__DIRECTORY": "/y"}

    first, second = load_text(text, PATH, variable).settings.integrations.gateways

    assert (first.directory, second.directory) == (Path("/y"), Path("/etc/llmopt/x"))


def test_a_missing_file_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no such file; `llmopt config init` writes one"):
        load(tmp_path / "none.yaml", {})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"#" * (MAX_BYTES + 1), "larger than 5 MiB"),
        (b"service: {}\nx: \xff\n", r"f.yaml:2: not UTF-8"),
    ],
)
def test_a_file_that_is_no_text_of_ours_is_refused(
    tmp_path: Path, data: bytes, message: str
) -> None:
    file = tmp_path / "f.yaml"
    file.write_bytes(data)

    with pytest.raises(ConfigError, match=message):
        load(file, {})


def test_a_directory_in_the_files_place_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path, {})


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    file = tmp_path / "f.yaml"
    file.write_bytes("\ufeffservice: {port: 4300}\n".encode())

    assert load(file, {}).settings.service.port == 4300


def test_relative_paths_are_relative_to_the_file_whatever_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = """
database: {connection_string: "sqlite:///l.db?timeout=3", spool_directory: spool}
integrations:
  sources:
    - {kind: file, name: f, paths: ["*.csv"], root: logs}
    - {kind: sql, name: s, url: "sqlite:///s.db", table: t, cursor_column: c, id_column: i}
  gateways: [{kind: file, name: g, directory: out}]
  notifiers: [{kind: file, name: n, path: /var/log/messages}]
"""
    home = tmp_path / "home"
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "o.yaml").write_text(text)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(tmp_path)

    settings = load(Path("etc/o.yaml"), {"OPTIMIZER_DATABASE__SPOOL_DIRECTORY": "~/spool"}).settings

    folder = tmp_path / "etc"
    outside = settings.integrations
    ledger = settings.database.connection_string.get_secret_value()
    assert ledger == f"sqlite:///{folder}/l.db?timeout=3"
    assert settings.database.spool_directory == home / "spool"
    file, table = outside.sources
    assert isinstance(file, FileSourceSettings)
    assert file.root == folder / "logs"
    assert not isinstance(table, FileSourceSettings)
    assert table.url.get_secret_value() == f"sqlite:///{folder}/s.db"
    assert outside.gateways[0].directory == folder / "out"
    assert outside.notifiers[0].model_dump()["path"] == Path("/var/log/messages")


def test_a_linked_file_means_the_places_beside_the_link(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "o.yaml").write_text("database: {spool_directory: spool}\n")
    (tmp_path / "o.yaml").symlink_to(tmp_path / "data" / "o.yaml")

    loaded = load(tmp_path / "o.yaml", {})

    assert loaded.settings.database.spool_directory == tmp_path / "spool"


def test_the_fingerprint_follows_the_values_and_not_the_layout() -> None:
    one = load_text("service: {port: 1, host: a}\n", PATH, {}).fingerprint
    same = load_text("# note\nservice:\n  host: a\n  port: 1\n", PATH, {}).fingerprint
    other = load_text("service: {port: 1, host: a}", PATH, {"OPTIMIZER_SERVICE__PORT": "2"})

    assert one == same != other.fingerprint


@given(st.integers(0, 3_000_000))
def test_a_duration_reads_back_as_it_is_written(seconds: int) -> None:
    duration = timedelta(seconds=seconds)

    assert TypeAdapter(Duration).validate_python(short(duration)) == duration
