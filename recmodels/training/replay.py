"""One more run of a failed batch, to name where its first non-finite value came from."""

import re
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node
from torch.overrides import TorchFunctionMode

from recmodels.training.callbacks import Step

_NOT_THE_CAUSE = (str(Path(torch.__file__).parent), __file__)  # frames to pass over when a source line is named

_UNINITIALIZED = ("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided")  # their values mean nothing


class RandomStates(NamedTuple):
    """Where the random streams of a model stand.

    Attributes:
        modules: state of `module.generator` by module name.
        default: state of torch's global CPU stream.
    """

    modules: dict[str, Tensor]
    default: Tensor


def snapshot(model: nn.Module) -> RandomStates:
    """The random states now, to be taken at the start of every step; a few kilobytes per generator."""
    return RandomStates(
        {name: generator.get_state() for name, generator in _generators(model).items()}, torch.get_rng_state()
    )


def kind(value: Tensor) -> str | None:
    """Returns "nan" when any entry is NaN, else "inf" when any is infinite, else None."""
    if not value.is_floating_point():
        return None
    if value.layout is torch.sparse_coo:
        value = value.coalesce()
    entries = value if value.layout is torch.strided else value.values()
    if bool(torch.isfinite(entries).all()):
        return None
    return "nan" if bool(torch.isnan(entries).any()) else "inf"


def replay(step: Step, states: RandomStates | None) -> dict[str, Any]:
    """Runs the batch once more, forward and, when that is finite, backward.

    Weights, gradients, buffers and random streams are afterwards as they were. Draws from the global stream of an
    accelerator are not reproduced. An infinity that a model makes on purpose, such as a mask, is noted like any other.

    Args:
        step: the failed step.
        states: the random states at the start of the step; None replays from the present ones.

    Returns:
        `first`: for "nan" and "inf" the `module`, `operation` and `source` line where each appeared first;
        `reproduced`: whether there was any; `error`: why the replay broke off, else None.
    """
    model, trace = step.trainer.model, _Trace(step.trainer.model)
    for name, p in model.named_parameters():
        trace.note(kind(p), name.rpartition(".")[0] or type(model).__name__, f"stored value of {name}", [])
    try:
        with _untouched(model, step.loss.device), _hooked(model, trace):
            if states is not None:
                _restore(model, states)
            _rerun(step, trace)
    except RuntimeError as error:  # the failure must be reported even when, say, memory does not allow a second graph
        return {"reproduced": bool(trace.first), "error": str(error), "first": trace.first}
    return {"reproduced": bool(trace.first), "error": None, "first": trace.first}


def graph_nodes(root: Node | None) -> Iterator[Node]:
    """Every node of the autograd graph below `root`, each once."""
    seen: set[Node] = set()
    stack = [] if root is None else [root]
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        yield node
        stack.extend(parent for parent, _ in node.next_functions if parent is not None)


class _Trace(TorchFunctionMode):
    """Notes the first operation that gave a NaN and the first that gave an infinity, and the module it ran in."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.first: dict[str, dict[str, str]] = {}
        self._made_in: dict[Node, str] = {}
        self._running = [type(model).__name__]

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result, name = func(*args, **(kwargs or {})), getattr(func, "__name__", str(func))
        if name not in _UNINITIALIZED and not _is_view(result, args, kwargs or {}, name):
            self._see(result, name)
        return result

    def enter(self, name: str) -> Callable[..., None]:
        return lambda module, args: self._running.append(name)

    def leave(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            # The output of a custom autograd function reaches no torch function, only this hook.
            self._see(output, "forward")
            self._running.pop()

        return hook

    def watch(self, root: Node) -> None:
        """Hooks every node of the graph below `root`, so that the backward pass names the first bad one."""
        for node in graph_nodes(root):
            metadata: Any = node.metadata
            module = self._made_in.get(node, self._running[0])
            node.register_hook(self._node_hook(module, node.name(), metadata.get("traceback_", [])))
        self._made_in.clear()  # a node that holds this trace through its hook must not be held by it

    def note(self, found: str | None, module: str, operation: str, stack: list[str]) -> None:
        if found is not None and found not in self.first:
            self.first[found] = {"module": module, "operation": operation, "source": _source(stack)}

    def _see(self, value: Any, operation: str) -> None:
        for tensor in _tensors(value):
            if tensor.grad_fn is not None:
                self._made_in.setdefault(tensor.grad_fn, self._running[-1])
            found = kind(tensor)
            if found is not None and found not in self.first:
                self.note(found, self._running[-1], operation, traceback.format_stack())

    def _node_hook(self, module: str, operation: str, stack: list[str]) -> Callable[..., None]:
        def hook(grad_inputs: Any, grad_outputs: Any) -> None:
            for tensor in _tensors(grad_inputs):
                self.note(kind(tensor), module, operation, stack)

        return hook


def _rerun(step: Step, trace: _Trace) -> None:
    model, amp = step.trainer.model, step.trainer.enable_amp
    # check_nan would stop at a NaN and pass over an infinity; anomaly mode is on for the source lines it keeps.
    with torch.enable_grad(), torch.autograd.set_detect_anomaly(True, check_nan=False):
        with trace, torch.autocast(step.loss.device.type, enabled=amp):
            loss = model.weighted_sum(model.terms(step.batch))
        if kind(loss) is None and loss.grad_fn is not None:
            trace.first.clear()  # the loss is finite, so what the forward pass had was meant, such as a mask
            trace.watch(loss.grad_fn)
            trainable = [p for p in model.parameters() if p.requires_grad]
            torch.autograd.grad(loss, trainable, allow_unused=True)


@contextmanager
def _hooked(model: nn.Module, trace: _Trace) -> Iterator[None]:
    with ExitStack() as stack:
        for name, module in model.named_modules():
            if name:
                stack.callback(module.register_forward_pre_hook(trace.enter(name)).remove)
                stack.callback(module.register_forward_hook(trace.leave(name)).remove)
        yield


@contextmanager
def _untouched(model: nn.Module, device: torch.device) -> Iterator[None]:
    values = [*model.named_parameters(), *model.named_buffers()]
    kept = [(name, tensor, tensor.detach().clone()) for name, tensor in values]
    before = snapshot(model)
    devices = [] if device.index is None else [device.index]
    with torch.random.fork_rng(devices=devices, device_type=device.type):
        try:
            yield
        finally:
            _restore(model, before)
            _put_back(model, kept)


@torch.no_grad()
def _put_back(model: nn.Module, kept: list[tuple[str, Tensor, Tensor]]) -> None:
    for name, tensor, value in kept:
        owner, _, attribute = name.rpartition(".")
        module = model.get_submodule(owner)
        tensor.copy_(value)
        if getattr(module, attribute) is not tensor:
            setattr(module, attribute, tensor)


def _restore(model: nn.Module, states: RandomStates) -> None:
    torch.set_rng_state(states.default)
    for name, generator in _generators(model).items():
        if name in states.modules:
            generator.set_state(states.modules[name])


def _generators(model: nn.Module) -> dict[str, torch.Generator]:
    found = {name: getattr(module, "generator", None) for name, module in model.named_modules()}
    return {name: generator for name, generator in found.items() if isinstance(generator, torch.Generator)}


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)


def _is_view(result: Any, args: Any, kwargs: dict[str, Any], operation: str) -> bool:
    """Whether an operation only looks at memory it was given, which may be a buffer that nobody has written yet."""
    is_writing = "out" in kwargs or re.fullmatch(r"\w*[a-z0-9]_|__i\w+__|__setitem__", operation)
    if is_writing:
        return False
    given = {_address(tensor) for tensor in _tensors(args) if tensor.layout == torch.strided}
    seen = (tensor for tensor in _tensors(result) if tensor.layout == torch.strided and tensor.grad_fn is None)
    return any(_address(tensor) in given for tensor in seen)


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _source(stack: list[str]) -> str:
    frames = (frame for frame in reversed(stack) if not any(part in frame for part in _NOT_THE_CAUSE))
    return " ".join(line.strip() for line in next(frames, "").strip().splitlines()[:2])
