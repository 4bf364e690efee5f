"""The whole network: golden values, precisions and sizes, its two seams, its initial weights, its refusals."""

from __future__ import annotations

import copy
import re
from functools import partial

import pytest
import torch
from torch import nn

from tim_model import TiM, TiMParams
from tim_model.network.attention import attention
from tim_model.network.rope import ROPE_SCALINGS, RopeScaling
from tim_model.network.tim import EncodedText, check_label_values

from ...pretended import PretendedDevice
from ..golden import assert_reproduces, golden_case, relative_error

SMALL = {
    "in_channels": 3, "patch_size": 2, "hidden_size": 64, "depth": 2, "num_heads": 4, "mlp_hidden": 96,
    "adaln_hidden": 32, "z_dim": 10, "projector_dim": 24,
}  # fmt: skip
KINDS = {"text": {"context_dim": 40}, "class": {"num_classes": 7}}


def small(kind: str, **options) -> TiM:
    torch.manual_seed(0)
    return TiM(TiMParams(**SMALL, **KINDS[kind]), **options).requires_grad_(False)


def inputs(net: TiM, batch: int = 2, h: int = 8, w: int = 8) -> tuple[torch.Tensor, ...]:
    """x, t, r, context for that network."""
    torch.manual_seed(1)
    p = net.params
    t = torch.linspace(1, 0.3, batch)
    labels, text = torch.arange(batch) % 8, torch.randn(batch, 5, p.context_dim or 1)
    return torch.randn(batch, p.in_channels, h, w), t, t / 3, labels if p.num_classes else text


@pytest.mark.parametrize("case", range(3))
def test_golden_text(text_net, case):
    g = golden_case("t2i_forward", case)
    F, h = text_net(g["x"], g["t"], g["r"], g["y"], return_projection=True)
    assert_reproduces(F, g["F"])
    assert_reproduces(h, g["h_proj"])


@pytest.mark.parametrize("case", range(2))
def test_golden_class(class_net, case):
    g = golden_case("c2i_forward", case)
    F, h = class_net(g["x"], g["t"], g["r"], g["label"], return_projection=True)
    assert_reproduces(F, g["F"])
    assert_reproduces(h, g["h_proj"])


@pytest.mark.parametrize("kind", ["text_net", "class_net"])
def test_bfloat16_is_close_to_float32(kind, request):
    exact = request.getfixturevalue(kind)
    net = TiM(exact.params, dtype=torch.bfloat16)
    net.load_state_dict(exact.state_dict())
    x, t, r, context = inputs(exact)
    F = net(x, t, r, context)
    assert F.dtype == torch.float32  # as x, whatever the weights
    assert 0 < relative_error(F, exact(x, t, r, context)) < 0.05
    half = x.bfloat16()
    assert torch.equal(net(half, t, r, context).float(), net(half.float(), t, r, context))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("h", "w"), [(2, 2), (2, 14), (10, 4), (16, 16)])
def test_any_size(kind, h, w):
    net = small(kind)
    F, features = net(*inputs(net, 3, h, w), return_projection=True)
    assert F.shape == (3, 3, h, w)
    assert features.shape == (3, h * w // 4, 10)


@pytest.mark.parametrize("kind", ["text_net", "class_net"])
def test_samples_of_a_batch_are_independent(kind, request):
    net = request.getfixturevalue(kind)
    x, t, r, context = inputs(net, batch=4, h=6, w=8)
    F = net(x, t, r, context)
    for i in range(4):
        alone = slice(i, i + 1)
        assert_reproduces(F[alone], net(x[alone], t[alone], r[alone], context[alone]))


@pytest.mark.parametrize("kind", ["text_net", "class_net"])
@pytest.mark.parametrize("changed", range(4))
def test_every_input_matters(kind, changed, request):
    net = request.getfixturevalue(kind)
    given = inputs(net)
    other = [value.flip(0) if i == changed else value for i, value in enumerate(given)]
    assert relative_error(net(*other), net(*given)) > 1e-3


def test_label_after_the_last_means_no_class(class_net):
    x, t, r, _ = inputs(class_net, batch=1)
    assert relative_error(class_net(x, t, r, torch.tensor([10])), class_net(x, t, r, torch.tensor([9]))) > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_untrained_network_predicts_zero(kind):
    net = small(kind).init_weights()
    assert net(*inputs(net)).count_nonzero() == 0


def xavier_std(weight: torch.Tensor) -> float:
    out, into = weight.flatten(1).shape
    return (2 / (out + into)) ** 0.5


@pytest.mark.parametrize("kind", KINDS)
def test_initial_weights(kind):
    """As released: the time embedder, the text SwiGLU and the labels normal(0.02), most others xavier, no bias."""
    net = small(kind).init_weights()
    zero = [f"blocks.{i}.adaLN_modulation.fc2" for i in range(2)]
    zero += ["final_layer.adaLN_modulation.fc2", "final_layer.linear"]
    for name, weight in net.named_parameters():
        layer, _, role = name.rpartition(".")
        if role == "bias" or layer in zero:
            assert weight.count_nonzero() == 0, name
        elif layer.endswith("norm"):
            assert torch.equal(weight, torch.ones_like(weight)), name
        else:
            narrow = layer.startswith(("t_embedder", "y_embedder"))
            std = 0.02 if narrow else xavier_std(weight)
            assert weight.std().item() == pytest.approx(std, rel=0.1), name
            assert (weight.abs().max() <= 3**0.5 * std) != narrow, name  # xavier-uniform is bounded, normal is not


@pytest.mark.parametrize(("kind", "each"), [("text", 2), ("class", 1)])
def test_every_attention_goes_through_the_seam(kind, each):
    net = small(kind)
    x, t, r, context = inputs(net, h=4, w=6)
    calls = []

    def textbook(q, k, v):
        calls.append((q.shape, k.shape, v.shape))
        return ((q @ k.mT / q.shape[-1] ** 0.5).softmax(dim=-1) @ v).transpose(1, 2).flatten(2)

    torch.testing.assert_close(net(x, t, r, context, attention=textbook), net(x, t, r, context))
    image, text = (2, 4, 6, 16), (2, 4, 5, 16)  # batch, heads, tokens, head_dim
    assert calls == [(image, image, image), (image, text, text)][:each] * 2
    without = net(x, t, r, context, attention=lambda q, k, v: 0 * attention(q, k, v))
    assert not torch.allclose(without, net(x, t, r, context))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scaling", ROPE_SCALINGS)
def test_rope_scaling_acts_beyond_the_trained_size_alone(kind, scaling):
    net = small(kind)
    within, beyond = inputs(net, h=8, w=6), inputs(net, h=8, w=12)  # in cells, two to a token
    scaled = partial(net, rope_scaling=RopeScaling(scaling, trained=4))
    assert torch.equal(scaled(*within), net(*within))
    assert torch.equal(scaled(*beyond), net(*beyond)) == (scaling == "none")


def test_rope_scaling_belongs_to_one_call_and_to_no_file():
    net = small("class")
    given, names = inputs(net, h=4, w=8), net.state_dict().keys()
    before = net(*given)
    assert not torch.equal(net(*given, rope_scaling=RopeScaling("ntk", trained=2)), before)
    assert torch.equal(net(*given), before)
    assert net.state_dict().keys() == names


def test_rope_scaling_compiles_into_one_graph():
    """Another scaling is another graph, not the old one."""
    net = small("class")
    given, compiled = inputs(net, h=4, w=8), torch.compile(net.predict, fullgraph=True, backend="eager")
    for kind in ("none", "yarn"):
        scaling = RopeScaling(kind, trained=2)
        found = compiled(*given, attention, rope_scaling=scaling)[0]
        torch.testing.assert_close(found, net(*given, rope_scaling=scaling))


@pytest.mark.parametrize("kind", KINDS)
def test_blocks_can_be_replaced_for_one_call(kind):
    """With the arguments of the block itself; here by nothing but its tokens."""
    net = small(kind)
    given = inputs(net)
    plain, blocks = net(*given), list(net.blocks)
    F, _ = net.predict(*given, attention, [blocks[0], lambda x, *rest: x, *blocks[2:]])
    assert torch.equal(net(*given), plain)
    del net.blocks[1]
    assert torch.equal(F, net(*given))
    assert not torch.equal(F, plain)


class Host:
    """Layers as a host brings them; any object with these four will do."""

    class Linear(nn.Linear): ...

    class Conv2d(nn.Conv2d): ...

    class LayerNorm(nn.LayerNorm): ...

    class Embedding(nn.Embedding): ...


@pytest.mark.parametrize("kind", KINDS)
def test_every_weight_is_in_a_layer_of_the_host(kind):
    net = small(kind, operations=Host, dtype=torch.float16, device="meta")
    owners = [module for module in net.modules() if next(module.parameters(recurse=False), None) is not None]
    assert {type(module) for module in owners} <= {Host.Linear, Host.Conv2d, Host.LayerNorm, Host.Embedding}
    assert {(p.dtype, p.device.type) for p in net.parameters()} == {(torch.float16, "meta")}
    assert net.state_dict().keys() == small(kind).state_dict().keys()


def test_host_layers_compute_the_same():
    host, plain = small("text", operations=Host), small("text")
    assert torch.equal(host(*inputs(host)), plain(*inputs(plain)))


def shaped(*shape: int) -> torch.Tensor:
    return torch.zeros(shape)


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("class", {"x": shaped(2, 4, 8, 8)}, "x has shape (2, 4, 8, 8): expected (batch, 3, H, W)"),
        ("class", {"x": shaped(2, 3, 7, 8)}, "multiples of the patch size 2"),
        ("class", {"x": shaped(2, 3, 8)}, "x has shape (2, 3, 8)"),
        ("class", {"t": torch.tensor(0.5)}, "t and r have shapes () and (2,): expected one time per sample, (2,)"),
        ("class", {"r": shaped(1)}, "t and r have shapes (2,) and (1,)"),
        ("class", {"t": shaped(3), "r": shaped(3)}, "t and r have shapes (3,) and (3,)"),
        ("class", {"context": torch.tensor([1, 2, 3])}, "context has shape (3,)"),
        ("class", {"context": shaped(2, 5, 40)}, "expects integer class labels (2,)"),
        ("class", {"context": shaped(2)}, "dtype torch.float32"),
        ("text", {"context": shaped(2, 5, 39)}, "expects text features (2, length, 40)"),
        ("text", {"context": shaped(1, 5, 40)}, "context has shape (1, 5, 40)"),
        ("text", {"context": torch.tensor([1, 2])}, "dtype torch.int64: this network expects text features"),
        ("text", {"context": EncodedText(shaped(1, 5, 64), ((), ()))}, "context is encoded text (1, 5, 64)"),
        ("text", {"context": EncodedText(shaped(2, 5, 64), ((),))}, "of 1 blocks: expected (2, length, 64) of 2"),
        (
            "class",
            {"context": EncodedText(shaped(2, 5, 64), ())},
            "context has been encoded as text: this network expects",
        ),
    ],
)
def test_unfit_inputs_are_refused_in_one_line(kind, changes, message):
    net = small(kind)
    given = dict(zip(("x", "t", "r", "context"), inputs(net), strict=True)) | changes
    with pytest.raises(ValueError) as error:
        net(**given)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("labels", [[0, 8], [-1, 1]])
def test_labels_are_checked_where_they_come_from(labels):
    with pytest.raises(ValueError, match=rf"class labels {re.escape(str(labels))}: expected 0 to 6, or 7 for no class"):
        check_label_values(torch.tensor(labels), 7)
    check_label_values(torch.tensor([0, 7]), 7)


def test_encoded_text_is_the_text():
    net = small("text")
    x, t, r, context = inputs(net)
    encoded = net.encode_text(context)
    assert torch.equal(net(x, t, r, encoded), net(x, t, r, context))
    torch.testing.assert_close(encoded.tokens.mean(-1), torch.zeros(2, 5))
    assert not torch.equal(net(x, t, r, net.encode_text(context.flip(0))), net(x, t, r, context))


@pytest.mark.parametrize("kind", KINDS)
def test_one_time_serves_all_samples(kind):
    net = small(kind).init_weights()
    for part in net.modules():  # modulations that do something
        if isinstance(part, nn.Linear):
            nn.init.normal_(part.weight, std=0.1)
    x, t, r, context = inputs(net, batch=3)
    for i in range(3):
        found = net(x, t[i : i + 1], r[i : i + 1], context)
        torch.testing.assert_close(found, net(x, t[i].expand(3), r[i].expand(3), context))


def test_output_is_contiguous():
    """Tokens are made of channels-last patches; samplers go on with x."""
    assert small("class")(*inputs(small("class"))).is_contiguous()
    params = TiMParams(**{**SMALL, "patch_size": 1}, **KINDS["class"])
    net = TiM(params)
    assert net(*inputs(net)).is_contiguous()


def test_no_call_waits_for_the_device():
    """No single value is read and nothing is copied to the CPU, with and without gradient."""
    device = PretendedDevice("cuda")
    for kind in KINDS:
        net = small(kind)
        given = inputs(net)
        with device:
            on_device = copy.deepcopy(net).to("cuda").requires_grad_()
            values = [device.put(value) for value in given]
            device.read, device.copied = 0, []
            on_device(*values).square().mean().backward()
            assert (device.read, device.copied) == (0, [])


def test_projection_needs_a_projector():
    net = TiM(small("class").params.without_projector())
    with pytest.raises(ValueError, match="no REPA head"):
        net(*inputs(net), return_projection=True)
