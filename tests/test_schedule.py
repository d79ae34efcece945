import pytest

from nanochat.schedule import cosine_to_zero, lr_multiplier, muon_momentum, ratio_multiplier


def test_learning_rate_at_the_corners():
    # 1000 steps: up over 40, level until 1000 - 650 = 350, then down over 650 towards 0.05
    assert lr_multiplier(0, 1000) == pytest.approx(1 / 40)
    assert lr_multiplier(19, 1000) == pytest.approx(0.5)
    assert lr_multiplier(39, 1000) == lr_multiplier(40, 1000) == lr_multiplier(350, 1000) == 1.0
    assert lr_multiplier(351, 1000) == pytest.approx(649 / 650 + 1 / 650 * 0.05)
    assert lr_multiplier(675, 1000) == pytest.approx(0.5 + 0.5 * 0.05)
    assert lr_multiplier(999, 1000) == pytest.approx(1 / 650 + 649 / 650 * 0.05)
    assert lr_multiplier(1000, 1000) == lr_multiplier(5000, 1000) == pytest.approx(0.05)  # a finished run that is asked again


def test_learning_rate_by_other_settings():
    assert lr_multiplier(4, 100, warmup_steps=10, warmdown_ratio=0.5, final_lr_frac=0.0) == pytest.approx(0.5)
    assert lr_multiplier(75, 100, warmup_steps=10, warmdown_ratio=0.5, final_lr_frac=0.0) == pytest.approx(0.5)
    assert lr_multiplier(100, 100, warmup_steps=10, warmdown_ratio=0.5, final_lr_frac=0.0) == 0.0
    assert lr_multiplier(99, 100, warmdown_ratio=0.5, final_lr_frac=1.0) == 1.0
    assert lr_multiplier(50, 100, warmup_steps=0, warmdown_ratio=1.0, final_lr_frac=0.0) == pytest.approx(0.5)


def test_no_warmup_and_no_warmdown():
    assert lr_multiplier(0, 100, warmup_steps=0) == 1.0
    assert [lr_multiplier(step, 10, warmup_steps=0, warmdown_ratio=0.0) for step in range(11)] == [1.0] * 11
    assert lr_multiplier(0, 1, warmup_steps=0, warmdown_ratio=0.4) == 1.0  # 0.4 of one step is no step
    assert lr_multiplier(0, 0, warmup_steps=0) == 1.0


@pytest.mark.parametrize("steps", [1, 2, 3, 10, 20, 40, 50, 61, 100, 114, 115, 1000])
def test_no_run_is_too_short(steps):
    """Positive, at most 1, up before down, and no jump beyond one step of the steeper line."""
    curve = [lr_multiplier(step, steps) for step in range(steps)]
    assert all(0 < value <= 1 for value in curve)
    top = curve.index(max(curve))
    assert curve[: top + 1] == sorted(curve[: top + 1]) and curve[top:] == sorted(curve[top:], reverse=True)
    steepest = max(1 / 40, 1 / max(1, round(0.65 * steps)))
    assert all(abs(b - a) <= steepest + 1e-9 for a, b in zip(curve, curve[1:], strict=False))


def test_learning_rate_by_the_share_of_the_run():
    # as SFT has it: level, then down over the second half to zero
    curve = [ratio_multiplier(progress, 0.0, 0.5, 0.0) for progress in (0, 0.25, 0.5, 0.6, 0.75, 0.9, 1)]
    assert curve == pytest.approx([1, 1, 1, 0.8, 0.5, 0.2, 0])
    # up over a tenth, level, down over two tenths towards 0.2
    curve = [ratio_multiplier(progress, 0.1, 0.2, 0.2) for progress in (0, 0.05, 0.1, 0.8, 0.9, 1)]
    assert curve == pytest.approx([0, 0.5, 1, 1, 0.6, 0.2])
    assert [ratio_multiplier(progress, 0.0, 0.0, 0.0) for progress in (0, 0.5, 1)] == [1, 1, 1]
    assert ratio_multiplier(0.5, 1.0, 1.0, 0.0) == pytest.approx(0.5)  # all warm-up and all warm-down: the lower of the two lines


@pytest.mark.parametrize("ratios", [(0, 0, 0), (0, 0.5, 0), (0.3, 0.7, 0.1), (1, 1, 0), (0.8, 0.8, 0.5), (0.1, 0.2, 1)])
def test_no_share_is_out_of_bounds(ratios):
    """Between 0 and 1, up before down; a run that has gone too far gets what its end would."""
    curve = [ratio_multiplier(i / 100, *ratios) for i in range(101)]
    assert all(0 <= value <= 1 for value in curve)
    top = curve.index(max(curve))
    assert curve[: top + 1] == sorted(curve[: top + 1]) and curve[top:] == sorted(curve[top:], reverse=True)
    assert ratio_multiplier(1.2, *ratios) == ratio_multiplier(1.0, *ratios)


def test_both_schedules_are_one():
    """By steps or by the share of the steps, without a warm-up it is the same line."""
    for step in range(101):
        by_steps = lr_multiplier(step, 100, warmup_steps=0, warmdown_ratio=0.4, final_lr_frac=0.05)
        assert ratio_multiplier(step / 100, 0.0, 0.4, 0.05) == pytest.approx(by_steps)


def test_muon_momentum():
    # 2000 steps: up over 400, level until 2000 - 1300 = 700, then down over 1300
    assert muon_momentum(0, 2000) == pytest.approx(0.85)
    assert muon_momentum(200, 2000) == pytest.approx(0.91)
    assert muon_momentum(399, 2000) == pytest.approx(0.85 + 0.12 * 399 / 400)
    assert muon_momentum(400, 2000) == muon_momentum(700, 2000) == pytest.approx(0.97)
    assert muon_momentum(1350, 2000) == pytest.approx(0.935)
    assert muon_momentum(2000, 2000) == muon_momentum(9999, 2000) == pytest.approx(0.90)


def test_muon_momentum_in_short_runs():
    # 100 steps have their warm-down from 35 on, but the ramp goes first: 0.85 + 0.12 · 99/400
    assert muon_momentum(99, 100) == pytest.approx(0.8797)
    # 500 steps: warm-down of 325 from 175 on, which is seen from step 400 on, 225 steps into it
    assert muon_momentum(399, 500) == pytest.approx(0.9697)
    assert muon_momentum(400, 500) == pytest.approx(0.97 - 0.07 * 225 / 325)
    assert muon_momentum(450, 500, warmdown_ratio=0.0) == muon_momentum(600, 500, warmdown_ratio=0.0) == pytest.approx(0.97)


def test_cosine_to_zero():
    assert cosine_to_zero(0, 300) == 1.0
    assert cosine_to_zero(100, 300) == pytest.approx(0.75)
    assert cosine_to_zero(150, 300) == pytest.approx(0.5)
    assert cosine_to_zero(200, 300) == pytest.approx(0.25)
    assert cosine_to_zero(300, 300) == cosine_to_zero(900, 300) == pytest.approx(0.0, abs=1e-12)
    assert cosine_to_zero(0, 1) == cosine_to_zero(0, 0) == 1.0
