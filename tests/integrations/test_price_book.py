"""Prices: the operator's come first, published ones are dated, and what nobody names is unknown."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from intake_scene import NOON, batch, call, engine_at, frame, spooled
from optimizer.integrations.genai_price_book import GenaiPriceBook
from optimizer.integrations.no_prices import NoPrices
from optimizer.integrations.price_list import PriceEntry, PriceList
from optimizer.settings import load_text
from optimizer.targets import Arm, ModelConfig, Price, Target
from optimizer.wiring import close, equip

PUBLISHED = GenaiPriceBook()
AT = datetime(2026, 3, 1, tzinfo=UTC)
OURS = Price(input_usd_per_mtok=1.0, output_usd_per_mtok=2.0)
DEARER = Price(input_usd_per_mtok=10.0, output_usd_per_mtok=20.0)


def test_a_published_model_has_three_prices() -> None:
    assert PUBLISHED.price("gpt-4o-mini", "openai", AT) == Price(
        input_usd_per_mtok=0.15, output_usd_per_mtok=0.6, cached_input_usd_per_mtok=0.075
    )


@pytest.mark.parametrize(
    ("name", "provider"),
    [
        ("gpt-4o-mini", None),
        ("GPT-4o-mini", None),
        ("gpt-4o-mini-2024-07-18", "openai"),
        ("openai/gpt-4o-mini", None),
        ("openai/gpt-4o-mini", "openai"),
    ],
)
def test_the_ways_gateways_write_a_model_have_one_price(name: str, provider: str | None) -> None:
    assert PUBLISHED.price(name, provider, AT) == PUBLISHED.price("gpt-4o-mini", "openai", AT)


@pytest.mark.parametrize(
    ("name", "provider"),
    [
        ("our-own-model", None),
        ("gpt-4o-mini", "nobody"),
        ("gpt-4o-mini-acme", None),
        ("ft:gpt-4o-mini:acme::1", None),
        # Families are matched by their beginning: these are none of them.
        ("deepseek-chat-v9", None),
        ("claude-sonnet-4-5-acme", None),
        ("gemini-2.5-pro-turbo", None),
        # Charged by the request too: tokens do not tell the cost.
        ("sonar", "perplexity"),
        # Not charged by output tokens.
        ("text-embedding-3-small", "openai"),
        ("", None),
        ("/", None),
    ],
)
def test_what_is_not_published_under_that_name_is_unknown(name: str, provider: str | None) -> None:
    assert PUBLISHED.price(name, provider, AT) is None


@pytest.mark.parametrize(
    ("name", "provider"),
    [
        ("claude-opus-4-6-20260301", None),
        ("us.anthropic.claude-3-5-sonnet-20241022-v2:0", "bedrock"),
        ("claude-sonnet-4-5@20250929", "vertex_ai"),
        ("gemini-2.5-pro-preview-05-06", None),
    ],
)
def test_snapshots_and_regions_of_a_model_are_that_model(name: str, provider: str | None) -> None:
    assert PUBLISHED.price(name, provider, AT) is not None


def test_prices_follow_the_hour_of_the_request() -> None:
    day, night = (
        PUBLISHED.price("deepseek-chat", None, datetime(2025, 3, 3, hour, tzinfo=UTC))
        for hour in (3, 20)
    )

    assert day is not None
    assert night is not None
    assert day.output_usd_per_mtok == 2 * night.output_usd_per_mtok


def test_the_operators_table_comes_first_and_is_dated() -> None:
    book = PriceList(
        entries=[
            PriceEntry(model="gpt-4o-mini", price=OURS, since=AT),
            PriceEntry(model="gpt-4o-mini", price=DEARER, since=AT + timedelta(days=10)),
        ],
        otherwise=PUBLISHED,
    )

    def of(days: int) -> Price | None:
        return book.price("gpt-4o-mini", "openai", AT + timedelta(days=days))

    assert [of(0), of(9), of(10)] == [OURS, OURS, DEARER]
    assert of(-1) == PUBLISHED.price("gpt-4o-mini", "openai", AT)
    assert book.price("gpt-4o", "openai", AT) == PUBLISHED.price("gpt-4o", "openai", AT)


def test_an_entry_for_a_provider_comes_before_one_for_all() -> None:
    book = PriceList(
        entries=[
            PriceEntry(model="m", provider="groq", price=DEARER),
            PriceEntry(model="m", price=OURS, since=AT),
        ],
        otherwise=NoPrices(),
    )

    assert book.price("m", "groq", AT) == DEARER
    assert book.price("m", None, AT) == book.price("m", "azure", AT) == OURS
    assert book.price("other", "groq", AT) is None


def test_a_date_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="no time zone"):
        PriceEntry(model="m", price=OURS, since=datetime(2026, 1, 1))  # noqa: DTZ001 - the point


def test_failed_calls_and_cached_tokens_are_priced_and_unknown_models_are_not(
    tmp_path: Path,
) -> None:
    arms = {"known": "gpt-4o-mini", "unknown": "our-own-model"}
    target = Target(
        name="chat",
        arms=tuple(Arm(name=name, config=ModelConfig(model=model)) for name, model in arms.items()),
        baseline="known",
    )
    prices = {
        ("chat", name): price
        for name, model in arms.items()
        if (price := PUBLISHED.price(model, None, NOON)) is not None
    }
    tokens = {"cost_usd": None, "input_tokens": 1000, "output_tokens": 100, "cached_tokens": 200}
    rows = [
        call(1, arm="known", **tokens),
        call(2, arm="known", status="timeout", **tokens),
        call(3, arm="unknown", **tokens),
    ]
    engine = engine_at(tmp_path / "spool")

    found = engine.ingest(
        batch(frame(rows)), targets={"chat": target}, received_at=NOON, prices=prices
    )

    costs = spooled(engine, found).set_index("request_id")["cost_nusd"]
    # 800 at .15, 200 at .075 and 100 at .6 USD a million.
    assert costs[["r1", "r2"]].tolist() == [195_000, 195_000]
    assert costs.isna()["r3"]


CONFIG = """
database: {{connection_string: "sqlite:///{place}/ledger.db", spool_directory: "{place}/spool"}}
integrations:
  gateways: [{{kind: file, name: files, directory: "{place}/out"}}]
  prices: {prices}
targets:
  - name: chat
    baseline: own
    arms:
      - {{name: own, model: gpt-4o, price: {{input_usd_per_mtok: 7, output_usd_per_mtok: 8}}}}
      - {{name: listed, model: acme-1, provider: acme}}
      - {{name: published, model: gpt-4o-mini}}
      - {{name: nobody, model: unheard-of}}
"""
LISTED = (
    "{table: [{model: acme-1, since: 2026-01-01T00:00:00Z, input_usd_per_mtok: 1, "
    "output_usd_per_mtok: 2, cached_input_usd_per_mtok: 0.5}]}"
)


@pytest.mark.parametrize(
    ("prices", "known"),
    [
        ("{}", {"published"}),
        ("{published: false}", set()),
        (LISTED, {"published", "listed"}),
        (LISTED.replace("{table", "{published: false, table"), {"listed"}),
    ],
)
def test_the_configuration_says_which_books_are_asked(
    tmp_path: Path, prices: str, known: set[str]
) -> None:
    text = CONFIG.format(place=tmp_path, prices=prices)
    equipment = equip(load_text(text, tmp_path / "optimizer.yaml", {}))

    try:
        found = equipment.book_prices(AT)
        own = equipment.price_of("chat", "own", AT)
    finally:
        close(equipment)

    assert {arm for _, arm in found} == known
    assert own == Price(input_usd_per_mtok=7, output_usd_per_mtok=8)
    if "listed" in known:
        assert found["chat", "listed"].cached_input_usd_per_mtok == 0.5
