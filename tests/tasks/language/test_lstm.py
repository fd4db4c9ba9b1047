"""The LSTM's dropouts are those of AWD-LSTM, and it is an LSTM."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import dropout

from switch_ema.tasks.language import lstm
from switch_ema.tasks.language.lstm import LSTM, WeightDropLSTM

TOKENS = torch.arange(30).view(3, 10) % 7


def made(**options: float) -> LSTM:
    torch.manual_seed(0)
    return LSTM(7, layers=3, width=6, embedding=4, **options)  # type: ignore[arg-type]


def slow(model: LSTM, tokens: Tensor) -> Tensor:
    """Compute the features of a model without dropout in float64, one gate after the other."""
    x = model.embedding.weight.double()[tokens]
    for layer in model.layers:
        assert isinstance(layer, WeightDropLSTM)
        h = c = x.new_zeros(len(x), layer.units)
        outputs = []
        for step in x.unbind(1):
            gates = step @ layer.weight_ih.double().T + h @ layer.weight_hh.double().T
            i, f, g, o = (gates + layer.bias_ih.double() + layer.bias_hh.double()).chunk(4, 1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
            outputs.append(h)
        x = torch.stack(outputs, 1)
    return x


def test_it_is_an_lstm_in_evaluation_whatever_the_rates() -> None:
    model = made(dropout=0.5, input_dropout=0.5, hidden_dropout=0.5, embedding_dropout=0.5, weight_dropout=0.5).eval()
    features, state = model.features(TOKENS, None)
    torch.testing.assert_close(features.double(), slow(model, TOKENS), rtol=1e-4, atol=1e-6)
    first, state = model.features(TOKENS[:, :4], None)
    rest, _ = model.features(TOKENS[:, 4:], state)
    torch.testing.assert_close(torch.cat([first, rest], 1), features)
    assert model.features(TOKENS, None)[0].equal(features)


def test_the_loss_is_that_of_a_tied_softmax() -> None:
    model = made().eval()
    nn.init.normal_(model.bias)  # type: ignore[arg-type]
    logits = slow(model, TOKENS) @ model.embedding.weight.double().T + model.bias.double()  # type: ignore[union-attr]
    want = -logits.log_softmax(2).gather(2, TOKENS[..., None])[..., 0]
    torch.testing.assert_close(model(TOKENS, TOKENS).double(), want, rtol=1e-4, atol=1e-6)
    said, _ = model.predict(TOKENS)
    torch.testing.assert_close(said.double(), logits[:, -1].log_softmax(1), rtol=1e-4, atol=1e-6)


def test_every_parameter_is_there_once() -> None:
    model = made(weight_dropout=0.5)
    names = [name for name, _ in model.named_parameters()]
    assert names == list(model.state_dict())
    assert len(names) == 2 + 3 * 4
    assert sum("weight_hh" in name for name in names) == 3
    assert all(isinstance(parameter, nn.Parameter) for parameter in model.parameters())
    assert model.tied_weight() is model.embedding.weight


def test_weight_dropout_leaves_the_weights_alone_and_gradients_flow() -> None:
    model = made(weight_dropout=0.5).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    first, second = model(TOKENS, TOKENS), model(TOKENS, TOKENS)
    assert not first.equal(second)
    first.mean().backward()
    assert all(value.equal(before[name]) for name, value in model.state_dict().items())
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all()
    layer = model.layers[0]
    assert isinstance(layer, WeightDropLSTM)
    dropped = (layer.weight_hh.grad == 0).double().mean()  # type: ignore[union-attr]
    assert 0.3 < dropped < 0.7  # what is dropped gets no gradient, for all steps of the batch


def test_weights_are_dropped_once_for_all_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    masks = []

    def keep(x: Tensor, rate: float, training: bool = True) -> Tensor:
        masks.append(x)
        return dropout(x, rate, training)

    monkeypatch.setattr(lstm, "dropout", keep)
    model = made(weight_dropout=0.5).train()
    model(TOKENS, TOKENS)
    assert [mask.shape for mask in masks] == [(24, 6), (24, 6), (16, 4)]


def test_locked_masks_last_for_all_steps_of_an_example() -> None:
    model = made().train()
    mask = model._locked(torch.ones(5, 9, 200), 0.25)
    assert mask.eq(mask[:, :1]).all()
    assert not mask[0].equal(mask[1])
    assert mask.unique().tolist() == pytest.approx([0, 4 / 3])
    assert mask.mean().item() == pytest.approx(1, abs=0.1)
    assert model.eval()._locked(mask, 0.25) is mask


def test_whole_words_are_dropped_from_the_embedding() -> None:
    torch.manual_seed(0)
    model = LSTM(400, layers=1, width=4, embedding=4, embedding_dropout=0.25).train()
    tokens = torch.arange(400).repeat(2, 1)
    share = model._embedded(tokens) / model.embedding.weight
    assert share.isclose(share[:1, :, :1]).all()  # both occurrences of a word, and its whole vector
    dropped = share[0, :, 0] == 0
    assert 0.15 < dropped.double().mean() < 0.35
    torch.testing.assert_close(share[0, ~dropped, 0], torch.full((int((~dropped).sum()),), 4 / 3))


@pytest.mark.parametrize("name", ["dropout", "input_dropout", "hidden_dropout", "embedding_dropout", "weight_dropout"])
def test_every_rate_acts_in_training_alone(name: str) -> None:
    model, plain = made(**{name: 0.5}), made()
    assert not model.train()(TOKENS, TOKENS).equal(plain.train()(TOKENS, TOKENS))
    assert model.eval()(TOKENS, TOKENS).equal(plain.eval()(TOKENS, TOKENS))


def test_sizes_are_those_of_the_paper() -> None:
    with torch.device("meta"):
        model = LSTM(10_000, layers=3, width=1150, embedding=400)
    assert sum(parameter.numel() for parameter in model.parameters()) == 24_221_600  # the paper's 24 million on PTB


def test_weights_lie_in_one_block_where_cudnn_wants_them() -> None:
    layer = made().layers[0]
    assert isinstance(layer, WeightDropLSTM)
    weights = [weight.detach() for weight in layer.parameters()]
    block = lstm._in_one_block(weights)
    assert all(part.equal(weight) for part, weight in zip(block, weights, strict=True))
    starts = [part.storage_offset() for part in block]
    assert starts == [0, *torch.tensor([weight.numel() for weight in weights]).cumsum(0).tolist()[:-1]]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_it_is_the_same_on_a_gpu() -> None:
    model = made()
    here = model(TOKENS, TOKENS)
    here.mean().backward()
    gradient = model.layers[0].weight_hh.grad.clone()  # type: ignore[union-attr, operator]
    model.zero_grad()
    model.cuda()
    there = model(TOKENS.cuda(), TOKENS.cuda())
    there.mean().backward()
    torch.testing.assert_close(there.cpu(), here, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model.layers[0].weight_hh.grad.cpu(), gradient, rtol=1e-3, atol=1e-5)  # type: ignore[union-attr]
