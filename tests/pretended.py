"""A pretended device: its tensors hold values and compute on the CPU, but mix with those of the CPU as a GPU's would.

PyTorch's own fake tensors have a device and no values, so that code stops where it looks at one. These have both: the
real code runs to its end, on "cuda", "mps" or "xpu", and its results can be compared. Refused is what such a device
refuses: tensors of two devices in one operation, float64 and complex numbers (as MPS), a generator of the CPU. Copies
to the CPU and single values that are read, both of which make a device wait, are counted.

To PyTorch's C++ code the device is "meta:1": every build has the parts for "meta", and none of them computes. Only
Python code sees the device's name.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from typing_extensions import Self

aten = torch.ops.aten
STAND_IN = torch.device("meta:1")
UNSUPPORTED = {torch.float64, torch.complex32, torch.complex64, torch.complex128}
CROSSING = {aten.copy_.default, aten._to_copy.default}
TAKES_CPU_INDICES = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default}
MAKERS = {torch.tensor, torch.as_tensor, torch.asarray}
READS = {aten._local_scalar_dense.default, aten.equal.default, aten.is_nonzero.default, aten.nonzero.default}


class DeviceTensor(torch.Tensor):
    """A tensor on a pretended device; `values` is the same one on the CPU."""

    values: torch.Tensor
    pretended: PretendedDevice

    @staticmethod
    def __new__(cls, values: torch.Tensor, pretended: PretendedDevice) -> Self:
        tensor = torch.Tensor._make_wrapper_subclass(
            cls, values.shape, strides=values.stride(), storage_offset=values.storage_offset(), dtype=values.dtype,
            device=STAND_IN,
        )  # fmt: skip
        tensor.values, tensor.pretended = values, pretended
        return tensor

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        found = next(leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, DeviceTensor))
        return found.pretended.compute(func, args, kwargs or {})

    @property
    def device(self) -> torch.device:
        return self.pretended.device

    @property
    def is_meta(self) -> bool:
        return False

    @property
    def is_cuda(self) -> bool:
        return self.device.type == "cuda"

    @property
    def data(self) -> DeviceTensor:
        return torch.Tensor.data.__get__(self)

    @data.setter
    def data(self, new: DeviceTensor) -> None:
        torch.Tensor.data.__set__(self, new)
        self.values = new.values

    def __deepcopy__(self, memo: dict[int, Any]) -> DeviceTensor:
        if id(self) not in memo:
            copied = DeviceTensor(self.values.detach().clone(), self.pretended).requires_grad_(self.requires_grad)
            vars(copied).update({name: value for name, value in vars(self).items() if name == "_is_param"})
            memo[id(self)] = copied
        return memo[id(self)]

    def __repr__(self, **options: Any) -> str:
        return f"{self.values!r} on {self.device}"


class DeviceGenerator(torch.Generator):
    """A generator that is on the device where it was asked to be, and draws what one of the CPU draws."""

    def __new__(cls, device: torch.device | str = "cpu") -> Self:
        generator = super().__new__(cls)
        generator.is_on_device = torch.device(device).type != "cpu"
        return generator

    def __init__(self, device: torch.device | str = "cpu"):
        super().__init__()


class PretendedDevice(TorchDispatchMode):
    """Inside, `kind` names a device that computes.

    Attributes:
        copied: shapes of what has been copied from the device to the CPU.
        read: how many single values have been read.
    """

    def __init__(self, kind: str = "cuda"):
        super().__init__()
        self.device = torch.device(kind)
        self.copied: list[tuple[int, ...]] = []
        self.read = 0
        self.arguments = DeviceArguments(self)

    def __enter__(self) -> Self:
        super().__enter__()
        self.arguments.__enter__()
        torch.Generator = DeviceGenerator
        return self

    def __exit__(self, *error: object) -> None:
        torch.Generator = DeviceGenerator.__base__
        self.arguments.__exit__(*error)
        super().__exit__(*error)

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        return self.compute(func, args, kwargs or {})

    def put(self, values: torch.Tensor) -> DeviceTensor:
        """A tensor of the CPU on the device."""
        return DeviceTensor(values.detach().clone(), self)

    def compute(self, func: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
        """One operation of PyTorch."""
        inputs = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        on_device = [tensor for tensor in inputs if isinstance(tensor, DeviceTensor)]
        to = kwargs.get("device")
        is_result_on_device = bool(on_device) if to is None else to == STAND_IN
        if is_result_on_device or on_device:
            self.check(func, inputs, on_device)
        if torch.Tag.inplace_view in func.tags and on_device:
            raise NotImplementedError(f"{func}: pretended devices have no operation that changes a shape in place")
        self.count(func, inputs, on_device, to)
        if func is aten._efficientzerotensor.default:  # has no values, and only the dispatcher knows that they are 0
            func = aten.zeros.default
        owners = {id(tensor.values): tensor for tensor in on_device}
        if to == STAND_IN:
            kwargs = {**kwargs, "device": torch.device("cpu")}
        result = func(*tree_map(values_of, args), **tree_map(values_of, kwargs))

        def placed(value: Any) -> Any:
            if not isinstance(value, torch.Tensor) or not is_result_on_device:
                return value
            if value.dtype in UNSUPPORTED:
                raise TypeError(f"{func} gives {value.dtype}, which the device {self.device} does not have")
            return owners.get(id(value)) if id(value) in owners else DeviceTensor(value, self)

        if func is aten.copy_.default:  # whose result is on the device that is written to
            return args[0]
        return tree_map(placed, result)

    def check(self, func: Any, inputs: list[torch.Tensor], on_device: list[DeviceTensor]) -> None:
        """Raise for what a device refuses to take."""
        if lost := [tensor for tensor in inputs if not isinstance(tensor, DeviceTensor) and tensor.device == STAND_IN]:
            raise NotImplementedError(f"{func}: {tuple(lost[0].shape)} was made on {STAND_IN}, without values")
        others = [tensor for tensor in inputs if not isinstance(tensor, DeviceTensor) and tensor.ndim > 0]
        takes_indices = func in TAKES_CPU_INDICES and isinstance(inputs[0], DeviceTensor)
        if on_device and others and func not in CROSSING and not takes_indices:
            shapes = ", ".join(str(tuple(tensor.shape)) for tensor in others)
            raise RuntimeError(
                f"{func}: expected all tensors on one device, found {self.device} and {others[0].device} {shapes}"
            )

    def count(self, func: Any, inputs: list[torch.Tensor], on_device: list[DeviceTensor], to: Any) -> None:
        if not on_device:
            return
        self.read += func in READS
        leaves = func is aten._to_copy.default and to is not None and to.type == "cpu"
        if leaves or func is aten.copy_.default and not isinstance(inputs[0], DeviceTensor):
            self.copied.append(tuple(inputs[-1].shape))


class DeviceArguments(TorchFunctionMode):
    """Gives PyTorch's C++ code, which has no such device, the stand-in for it."""

    def __init__(self, pretended: PretendedDevice):
        self.pretended = pretended

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = dict(kwargs or {})
        if kwargs.get("device") is not None:
            kwargs["device"] = self.stand_in(kwargs["device"])
        generator = kwargs.get("generator")  # which C++ code hands on as another object
        is_drawn_here = kwargs.get("device") == STAND_IN or isinstance(next(iter(args), None), DeviceTensor)
        if generator is not None and is_drawn_here and not getattr(generator, "is_on_device", False):
            raise RuntimeError(f"{func}: expected a generator of {self.pretended.device}, but found one of the CPU")
        if func is torch.Tensor.tolist and isinstance(args[0], DeviceTensor):
            return args[0].to("cpu").tolist()
        if func is torch.Tensor.cuda:
            func, args = torch.Tensor.to, (args[0], "cuda")
        if func in (torch.Tensor.__getitem__, torch.Tensor.__setitem__) and isinstance(args[1], list):
            args = (args[0], torch.tensor(args[1]), *args[2:])
        if func is torch.Tensor.new_tensor:
            func, device = torch.tensor, kwargs.get("device") or self.stand_in(args[0].device)
            kwargs, args = {"dtype": args[0].dtype, **kwargs, "device": device}, args[1:]
        if func in MAKERS and kwargs.get("device") == STAND_IN:  # C++ code would make them without asking anyone
            return func(*args, **{**kwargs, "device": None}).to(STAND_IN)
        if func is torch.Tensor.to and len(args) > 1 and isinstance(args[1], (str, torch.device)):
            args = (args[0], self.stand_in(args[1]), *args[2:])
        return func(*args, **kwargs)

    def stand_in(self, device: torch.device | str | int) -> torch.device:
        device = torch.device(device)
        if device.type == self.pretended.device.type:
            return STAND_IN
        if device.type not in ("cpu", "meta"):
            raise RuntimeError(f"this machine has the devices cpu and {self.pretended.device}, and no {device.type}")
        return device


def values_of(value: Any) -> Any:
    """The same on the CPU, of tensors; whatever else it is as it is."""
    return value.values if isinstance(value, DeviceTensor) else value
