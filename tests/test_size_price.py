"""The price of size: it finds who gains most for what it costs."""

import pytest
import torch

from recmodels.training.size_price import SizePrice, expected_size


def test_the_price_rises_above_the_budget_falls_below_and_is_never_negative() -> None:
    price = SizePrice(100, rate=0.01)
    expected = torch.tensor(150.0, requires_grad=True)
    assert float(price(torch.tensor(100.0))) == 0
    price.follow(150.0)
    assert price.value == pytest.approx(0.005)
    cost, leads = price(expected), 20 * 0.01 * 0.5  # the first of the price is proportional
    assert float(cost) == pytest.approx((0.005 + leads) * 0.5)
    assert float(torch.autograd.grad(cost, expected)[0]) == pytest.approx((0.005 + leads) / 100)
    assert float(price(torch.tensor(80.0))) == 0  # it falls with the size, and nothing is paid for growing
    price.follow(80.0)
    assert price.value == pytest.approx(0.003)
    price.follow(0.0)
    assert price.value == 0


def test_without_a_rate_size_is_free() -> None:
    price = SizePrice(100, rate=0.0)
    price.follow(1e6)
    assert float(price(torch.tensor(1e6))) == 0


def test_the_expected_size_is_that_of_all_rows() -> None:
    probabilities = [torch.tensor([[0.25, 0.75], [1.0, 0.0]]), torch.tensor([[0.5, 0.5, 0.0]])]
    sizes = [torch.tensor([2, 10]), torch.tensor([1, 3, 5])]
    assert float(expected_size(probabilities, sizes)) == pytest.approx(0.25 * 2 + 0.75 * 10 + 2 + 2)


def sizes_found(rate: float) -> list[float]:
    """Probability of width 10 over 1 for three classes that gain .3, .2 and .1 by it and have 10, 1 and 10 rows."""
    rows, gains = torch.tensor([10.0, 1.0, 10.0]), torch.tensor([0.3, 0.2, 0.1])
    logits = torch.zeros(3, requires_grad=True)
    price, optimizer = SizePrice(120, rate), torch.optim.Adam([logits], lr=0.05)
    for _ in range(2000):
        wide = logits.sigmoid()
        expected = (rows * (1 + 9 * wide)).sum()
        loss = price(expected) - (gains * wide).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        price.follow(float(expected.detach()))
    return logits.sigmoid().tolist()


def test_width_goes_to_those_who_gain_most_for_their_size() -> None:
    """The budget holds the small class and one of the large ones: that which gains three times as much."""
    first, small, last = sizes_found(rate=0.01)
    assert first > 0.9
    assert small > 0.9
    assert last < 0.2
    assert min(sizes_found(rate=0.0)) > 0.9  # without a price all want it
