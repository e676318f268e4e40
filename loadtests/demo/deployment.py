"""The configuration that the demo runs Parallax with, as a person would write it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from loadtests.demo.story import DOSE

TEMPLATE: Final = """\
# Written by `make demo`. The ports were free when it ran; choose your own to run it again.
listeners:
  - address: 127.0.0.1:{traffic}
admin:
  metrics: 127.0.0.1:{metrics}

upstreams:
  model-a: 127.0.0.1:{a}       # runs today
  model-b: 127.0.0.1:{b}       # better, and slower
  model-c: 127.0.0.1:{c}       # best offline; is it?

routes:
  - name: predict
    match: {{path_prefix: /v2/models/digits, method: POST}}
    unit: {{header: x-user-id}}
    no_unit: default            # without a user id: control
    upstream: model-a
    experiments: [ranker]
    shadows: [candidate]
    reveal: true                # x-parallax-arm and x-parallax-fault on answers, for the demo to see

experiments:
  ranker:
    control: control
    arms:
      control: {{weight: 50%, upstream: model-a}}
      treatment: {{weight: 50%, upstream: model-b}}

shadows:
  candidate:
    upstream: model-c
    fraction: 100%
    deadline: 2s
    compare: {{label: argmax}}    # different models never score alike; the class is what counts

faults:
  max_dose: 25%               # the cap over all running faults, raised from 10%
  definitions:
    slow-treatment:
      kind: delay
      distribution: lognormal
      median: 250ms
      sigma: 0.3
      dose: {dose:.0%}
      max_duration: {max_duration_s:.0f}s
      washout: 2s
      reveal: true
      target: {{arms: [ranker/treatment]}}
    wrong-labels:
      kind: flip
      labels: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
      outputs: [label]
      dose: {dose:.0%}
      max_duration: {max_duration_s:.0f}s
      washout: 2s
      reveal: true
      target: {{arms: [ranker/treatment]}}

log:
  headers: [user-agent]         # which app asked: how the planted flaw is found
"""


@dataclass(frozen=True, slots=True)
class Ports:
    """Where everything listens, on loopback."""

    traffic: int
    metrics: int
    models: dict[str, int]


def write_config(ports: Ports, *, duration_s: float) -> str:
    """The YAML; no fault can outlast half the demo, whatever happens to the demo."""
    return TEMPLATE.format(
        traffic=ports.traffic,
        metrics=ports.metrics,
        dose=DOSE,
        max_duration_s=max(duration_s / 2, 5.0),
        **ports.models,
    )
