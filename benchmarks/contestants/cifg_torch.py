"""The model of models/cifg_lstm.py in PyTorch, for contestants that train with it.

The gradient is written by hand, and padding is left out, as in the original: PyTorch's own gradient of the same loss
is slower. Positions are packed by step: step t holds the sentences that are still running at t, in
the order of falling length.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

Tensor = torch.Tensor


class _Step(NamedTuple):
    """What the way back needs of one step, each [rows, num_cells]."""

    forget: Tensor
    output: Tensor
    candidate: Tensor
    cell_before: Tensor
    squashed: Tensor
    exposed: Tensor


class CifgLoss(torch.autograd.Function):
    """The mean cross-entropy over the real positions; its gradients are computed on the way forward."""

    @staticmethod
    def forward(ctx, embedding, kernel, bias, projection, output_bias, tokens, targets, mask):
        """Returns the loss, a scalar in nats."""
        loss, gradients = loss_and_gradients(embedding, kernel, bias, projection, output_bias, tokens, targets, mask)
        ctx.gradients = gradients
        return loss

    @staticmethod
    def backward(ctx, d_loss):
        """Returns the gradients, times that of the loss."""
        return (*(gradient.mul_(d_loss) for gradient in ctx.gradients), None, None, None)


def loss_and_gradients(embedding, kernel, bias, projection, output_bias, tokens, targets, mask):
    """Returns (mean loss over the real positions, gradients of the five weights).

    Args:
      embedding, kernel, bias, projection, output_bias: the five weights, shaped as models.weights.ModelSize says.
      tokens, targets: integers [batch, time].
      mask: [batch, time], 1 = real; in each row the ones come first.
    """
    width = projection.shape[1]
    order = torch.argsort(mask.sum(1), descending=True, stable=True)
    real = mask[order].T > 0  # [time, batch]
    sizes = [n for n in real.sum(1).tolist() if n]
    token_ids, target_ids = tokens[order].T[real].long(), targets[order].T[real].long()

    embedded = embedding[token_ids]
    steps, before, after = _forward(
        torch.addmm(bias, embedded, kernel[:width]).split(sizes), kernel[width:], projection
    )
    hidden = torch.cat(after)
    rows = torch.arange(len(target_ids))
    log_probability = torch.log_softmax(torch.addmm(output_bias, hidden, embedding.T), 1)
    loss = -log_probability[rows, target_ids].mean()

    d_logits = log_probability.exp_()
    d_logits[rows, target_ids] -= 1.0
    d_logits /= len(target_ids)
    d_gates, d_hidden = _backward(steps, (d_logits @ embedding).split(sizes), kernel[width:], projection)
    d_embedding = d_logits.T @ hidden
    d_embedding.index_add_(0, token_ids, d_gates @ kernel[:width].T)
    d_kernel = torch.cat([embedded.T @ d_gates, torch.cat(before).T @ d_gates])
    d_projection = torch.cat([step.exposed for step in steps]).T @ d_hidden
    return loss, (d_embedding, d_kernel, d_gates.sum(0), d_projection, d_logits.sum(0))


def _forward(from_input, recurrent: Tensor, projection: Tensor) -> tuple[list[_Step], list[Tensor], list[Tensor]]:
    """Returns (what each step leaves for the way back, hidden rows before it, hidden rows after it)."""
    num_cells, width = projection.shape
    hidden, cell = (
        from_input[0].new_zeros(len(from_input[0]), width),
        from_input[0].new_zeros(len(from_input[0]), num_cells),
    )
    steps, before, after = [], [], []
    for gates in from_input:
        hidden, cell_before = hidden[: len(gates)], cell[: len(gates)]
        before.append(hidden)
        forget, output, candidate = torch.addmm(gates, hidden, recurrent).split(num_cells, 1)
        forget, output, candidate = torch.sigmoid(forget), torch.sigmoid(output), torch.tanh(candidate)
        cell = candidate + forget * (cell_before - candidate)
        squashed = torch.tanh(cell)
        exposed = output * squashed
        hidden = exposed @ projection
        steps.append(_Step(forget, output, candidate, cell_before, squashed, exposed))
        after.append(hidden)
    return steps, before, after


def _backward(steps: list[_Step], d_hidden, recurrent: Tensor, projection: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the gradients of the gates before their non-linearity, and of the hidden rows, in the order of steps."""
    d_gates: list[Tensor] = []
    d_hidden_rows: list[Tensor] = []
    d_hidden_next = d_cell_next = None
    for step, d_hidden_step in zip(reversed(steps), reversed(d_hidden)):
        if d_hidden_next is not None:  # sentences that ended here get nothing from the step after
            d_hidden_step[: len(d_hidden_next)] += d_hidden_next
        d_exposed = d_hidden_step @ projection.T
        d_cell = d_exposed * step.output * (1.0 - step.squashed**2)
        if d_cell_next is not None:
            d_cell[: len(d_cell_next)] += d_cell_next
        d_step = torch.cat(
            [
                d_cell * (step.cell_before - step.candidate) * (step.forget * (1.0 - step.forget)),
                d_exposed * step.squashed * (step.output * (1.0 - step.output)),
                d_cell * (1.0 - step.forget) * (1.0 - step.candidate**2),
            ],
            1,
        )
        d_gates.append(d_step)
        d_hidden_rows.append(d_hidden_step)
        d_cell_next = d_cell * step.forget
        d_hidden_next = d_step @ recurrent.T
    return torch.cat(d_gates[::-1]), torch.cat(d_hidden_rows[::-1])
