"""Timing: in turn, over all input sets, without the collector; ratios by pairs that drift cannot move."""

import contextlib
import gc
import random
from types import SimpleNamespace

import pytest
import torch

from gdnbench.measure.kernels import timing
from gdnbench.measure.kernels.ratios import paired_ratio, spread
from gdnbench.measure.kernels.timing import ClockSampler, device_ms, in_turn, input_sets


class Fake:
    """A sampler that notes when it was asked, and whether the collector was on."""

    how, note = "fake", ""

    def __init__(self, name, log):
        self.name, self.log = name, log

    def sample(self):
        self.log.append((self.name, gc.isenabled()))
        return float(len(self.log))


def test_samples_are_taken_in_turn_from_both_ends():
    log: list[tuple[str, bool]] = []
    times = in_turn([Fake("a", log), Fake("b", log), Fake("c", log)], 3)
    assert "".join(name for name, _ in log) == "abccbaabc"
    assert times == [[1.0, 6.0, 7.0], [2.0, 5.0, 8.0], [3.0, 4.0, 9.0]]


def test_the_collector_is_off_while_timing_and_on_again_after():
    log: list[tuple[str, bool]] = []
    in_turn([Fake("a", log)], 2)
    assert [collects for _, collects in log] == [False, False]
    assert gc.isenabled()


def test_a_clock_rotates_over_the_input_sets():
    called: list[int] = []
    sampler = ClockSampler([lambda: called.append(0), lambda: called.append(1)])
    called.clear()
    assert all(sampler.sample() >= 0 for _ in range(4))
    assert called == [0, 1, 0, 1]


def test_a_ratio_by_pairs_is_not_moved_by_drift():
    """The clock of the machine falls by half over the run: medians by themselves would be off by a third."""
    rng = random.Random(1)
    drift = [1 + index / 50 for index in range(50)]
    ours = [0.3 * d * (1 + rng.gauss(0, 0.01)) for d in drift]
    theirs = [0.75 * d * (1 + rng.gauss(0, 0.01)) for d in drift]
    ratio = paired_ratio(ours, theirs)
    assert ratio.low < 2.5 < ratio.high
    assert ratio.high - ratio.low < 0.05
    assert ratio == paired_ratio(ours, theirs), "the same samples give the same interval"


def test_an_interval_covers_the_truth_about_as_often_as_it_says():
    rng, inside = random.Random(2), 0
    for _ in range(60):
        ours, theirs = ([1 + rng.gauss(0, 0.05) for _ in range(30)] for _ in range(2))
        ratio = paired_ratio(ours, theirs)
        inside += ratio.low <= 1 <= ratio.high
    assert inside >= 50


def test_a_ratio_wants_pairs():
    with pytest.raises(ValueError, match="one pair a round, got 2 and 1"):
        paired_ratio([1.0, 2.0], [1.0])


def test_spread():
    found = spread([float(x) for x in range(1, 12)])
    assert (found.p10, found.median, found.p90) == (2.0, 6.0, 10.0)


def event(kind, us, **more):
    return SimpleNamespace(device_type=kind, time_range=SimpleNamespace(elapsed_us=lambda: us), **more)


def test_the_profilers_kernels_are_summed_and_annotations_are_not():
    kinds = torch.autograd.DeviceType
    events = [event(kinds.CUDA, 300.0), event(kinds.CUDA, 50.0), event(kinds.CPU, 9999.0)]
    events.append(event(kinds.CUDA, 400.0, is_user_annotation=True))
    assert device_ms(events) == 0.35


def test_a_profile_without_kernels_is_an_error():
    with pytest.raises(RuntimeError, match="no kernel"):
        device_ms([event(torch.autograd.DeviceType.CPU, 1.0)])


def test_the_profiler_has_what_is_read_from_it():
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        torch.ones(4).sum()
    (first, *_) = profile.events()
    assert first.time_range.elapsed_us() >= 0
    assert first.device_type == torch.autograd.DeviceType.CPU


@pytest.mark.parametrize(("nbytes", "sets"), [(10**9, 2), (60 * 2**20, 3), (10**6, 64)])
def test_input_sets_exceed_the_cache(monkeypatch, nbytes, sets):
    properties = SimpleNamespace(L2_cache_size=60 * 2**20)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: properties)
    assert input_sets(nbytes, "cuda") == sets
    assert input_sets(nbytes, "cpu") == 2


def test_what_cannot_be_captured_is_timed_by_its_kernels_and_says_why(monkeypatch):
    def no_graph(calls):
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    made = []
    monkeypatch.setattr(timing, "GraphSampler", no_graph)
    monkeypatch.setattr(timing, "KernelSampler", lambda calls, reason: made.append(reason))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    timing.sampler([lambda: None], "device", "cuda")
    assert made == ["RuntimeError: operation not permitted when stream is capturing"]


class Device:
    """A GPU that never was: work takes the time it says, and events read its clock."""

    def __init__(self, monkeypatch, launch_us=5.0):
        self.now, self.launch_us, self.capturing = 0.0, launch_us, None
        self.log: list[str] = []
        monkeypatch.setattr(torch.cuda, "Event", lambda enable_timing: DeviceEvent(self))
        monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: DeviceGraph(self))
        monkeypatch.setattr(torch.cuda, "graph", self.graph)
        monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
        monkeypatch.setattr(timing, "side_stream", lambda: None)

    def work(self, us):
        """Return a call of a kernel of this length."""

        def call():
            if self.capturing is not None:
                self.capturing.append(us)
            else:
                self.now += us + self.launch_us

        return call

    @contextlib.contextmanager
    def graph(self, graph, stream, capture_error_mode):
        self.capturing = graph.kernels
        yield
        self.capturing = None


class DeviceEvent:
    def __init__(self, device):
        self.device, self.at = device, 0.0

    def record(self):
        self.at = self.device.now

    def synchronize(self):
        pass

    def elapsed_time(self, other):
        return (other.at - self.at) / 1e3


class DeviceGraph:
    def __init__(self, device):
        self.device, self.kernels = device, []

    def replay(self):
        self.device.now += sum(self.kernels)


def test_a_graph_is_made_long_enough_and_leaves_launches_out(monkeypatch):
    device = Device(monkeypatch)
    sampler = timing.sampler([device.work(20.0), device.work(40.0)], "device", "cuda")
    assert sampler.how == "graph"
    assert sum(sampler.graph.kernels) >= 1000, "at least a millisecond"
    assert sampler.sample() == pytest.approx(0.030), "the mean over the input sets, without launches"


def test_a_long_call_is_captured_once_a_set(monkeypatch):
    device = Device(monkeypatch)
    sampler = timing.sampler([device.work(5000.0), device.work(5000.0)], "device", "cuda")
    assert sampler.graph.kernels == [5000.0, 5000.0]
    assert sampler.sample() == pytest.approx(5.0)


def test_eager_time_has_the_launch_and_rotates(monkeypatch):
    device = Device(monkeypatch, launch_us=50.0)
    sampler = timing.sampler([device.work(10.0), device.work(30.0)], "eager", "cuda")
    assert [sampler.sample() for _ in range(3)] == pytest.approx([0.060, 0.080, 0.060])
