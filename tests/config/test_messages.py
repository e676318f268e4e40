"""Messages about single values: the path, what was got, the bound, the nearest name."""

from __future__ import annotations

import pytest

CASES = [
    (
        "faults: {definitions: {f: {kind: delay, value: 1s, dose: 1%, max_duration: 1m, washoud: 1s}}}",
        [
            "6: faults.definitions.f.washoud: unknown key, did you mean 'washout'?",
        ],
    ),
    (
        "stat: x",
        [
            "6: stat: unknown key, did you mean 'state'?",
        ],
    ),
    (
        "state: 3",
        [
            "6: state: got 3, must be text, put it in quotes",
        ],
    ),
    (
        "workers: 0",
        [
            "6: workers: got 0, must be ≥ 1, or auto",
        ],
    ),
    (
        "workers: many",
        [
            "6: workers: got 'many', must be a whole number, or auto",
        ],
    ),
    (
        "analyst: maybe",
        [
            "6: analyst: got 'maybe', must be true or false, or on or off",
        ],
    ),
    (
        "listeners: 8080",
        [
            "6: listeners: got 8080, must be host:port, such as 0.0.0.0:8080",
        ],
    ),
    (
        'listeners: [":8080"]',
        [
            "6: listeners[0]: got ':8080', must be host:port, such as 127.0.0.1:8080 or [::1]:8080",
        ],
    ),
    (
        "listeners: [example.com:80]",
        [
            "6: listeners[0]: got 'example.com:80', must be an IP address of this machine and a port, such as 0.0.0.0:8080",
        ],
    ),
    (
        'listeners: ["::1:80"]',
        [
            "6: listeners[0]: got '::1:80', must write an IPv6 address in brackets, such as [::1]:8080",
        ],
    ),
    (
        "listeners: [127.0.0.1:0]",
        [
            "6: listeners[0]: got '127.0.0.1:0', must have a port between 1 and 65535",
        ],
    ),
    (
        "listeners: [127.0.0.1:8080, 0.0.0.0:8080]",
        [
            "6: listeners[1]: got '0.0.0.0:8080', already taken by listeners[0]",
        ],
    ),
    (
        "listeners: []",
        [
            "6: listeners: must not be empty, give at least one entry",
        ],
    ),
    (
        "listeners: 127.0.0.1:9900",
        [
            "1: admin.metrics: 127.0.0.1:9900 by default, already taken by listeners, choose another address or off",
        ],
    ),
    (
        "admin: {address: 10.0.0.1:9901}",
        [
            "6: admin.address: got '10.0.0.1:9901', must be unix, or on loopback such as 127.0.0.1:9901, unless tls is given: whoever reaches it can change everything",
        ],
    ),
    (
        "admin: {metrics: unix:/run/metrics.sock}",
        [
            "6: admin.metrics: got 'unix:/run/metrics.sock', must be host:port, such as 127.0.0.1:8080 or [::1]:8080, or off",
        ],
    ),
    (
        "listeners: [unix:relative.sock]",
        [
            "6: listeners[0]: got 'unix:relative.sock', must be unix: and an absolute path without blanks, such as unix:/run/model.sock",
        ],
    ),
    (
        f"listeners: [unix:/{'x' * 96}]",
        [
            f"6: listeners[0]: got 'unix:/{'x' * 53}…', must have a path of at most 96 bytes",
        ],
    ),
    (
        "listeners: [unix:/run/a.sock, unix:///run/a.sock]",
        [
            "6: listeners[1]: got 'unix:///run/a.sock', already taken by listeners[0]",
        ],
    ),
    (
        "listeners: [{address: unix:/run/a.sock, mode: 0660}]",
        [
            '6: listeners[0].mode: got 660, must be three octal digits in quotes, such as "0660"',
        ],
    ),
    (
        'listeners: [{address: 127.0.0.1:1, mode: "0660"}]',
        [
            "6: listeners[0].mode: only a Unix socket has one, remove it",
        ],
    ),
    (
        "listeners: [{address: 127.0.0.1:1, tls: {key: k, require_client_certificate: on, min_version: 1.1}}]",
        [
            "6: listeners[0].tls.certificate: missing, give the PEM file with the certificate and its chain",
            "6: listeners[0].tls.min_version: got 1.1, must be 1.2 or 1.3",
            "6: listeners[0].tls.require_client_certificate: needs client_ca, the file with the authorities whose certificates are accepted",
        ],
    ),
    (
        "listeners: [{address: 127.0.0.1:1, tls: {certificat: c}}]",
        [
            "6: listeners[0].tls.certificate: missing, give the PEM file with the certificate and its chain",
            "6: listeners[0].tls.certificat: unknown key, did you mean 'certificate'?",
        ],
    ),
    (
        "listeners: [{address: 127.0.0.1:1, tls: }]",
        [
            "6: listeners[0].tls: got nothing, give its keys, {} for the defaults of an upstream, or remove it",
        ],
    ),
    (
        "admin: {address: 10.0.0.1:9901, tls: {certificate: c, require_client_certificate: true}}",
        [
            "6: admin.tls.require_client_certificate: needs client_ca, the file with the authorities whose certificates are accepted",
        ],
    ),
    (
        "trust: {proxies: [10.0.0.1/8, unix, lan, 10.0.0.0/8]}",
        [
            "6: trust.proxies[0]: got '10.0.0.1/8', must have no bits set behind the prefix, such as 10.0.0.0/8",
            "6: trust.proxies[2]: got 'lan', must be a range such as 10.0.0.0/8, an IP address, or unix",
        ],
    ),
    (
        "trust: {force_key: '${SECRET}', force_key_file: f}",
        [
            "6: trust.force_key: got '${SECRET}', must have at least 32 characters, such as the output of openssl rand -hex 32",
            "6: trust.force_key_file: given together with force_key, remove one",
        ],
    ),
    (
        "admin: {address: unx}",
        [
            "6: admin.address: got 'unx', must be host:port, such as 127.0.0.1:8080 or [::1]:8080, or unix",
        ],
    ),
    (
        "admin: {metrics: no}",
        [
            "6: admin.metrics: got 'no', must be host:port, such as 127.0.0.1:8080 or [::1]:8080, or off",
        ],
    ),
    (
        "limits: {header_timeout: 0}",
        [
            "6: limits.header_timeout: got 0, must be > 0s",
        ],
    ),
    (
        "limits: {header_timeout: 11m}",
        [
            "6: limits.header_timeout: got '11m', must be ≤ 10m",
        ],
    ),
    (
        "limits: {max_head: 1}",
        [
            "6: limits.max_head: got 1, must be ≥ 1KiB",
        ],
    ),
    (
        "limits: {max_head: 10 parsecs}",
        [
            "6: limits.max_head: got '10 parsecs', must be a size in whole bytes such as 512KiB, 10MiB, 10MB or 100",
        ],
    ),
    (
        "limits: {max_headers: 1.5}",
        [
            "6: limits.max_headers: got 1.5, must be a whole number",
        ],
    ),
    (
        "limits: {max_target: 128KiB}",
        [
            "6: limits.max_target: got '128KiB', must be ≤ max_head (65536 bytes by default)",
        ],
    ),
    (
        "limits: 3",
        [
            "6: limits: got 3, must be a mapping",
        ],
    ),
    (
        "routes: [{name: all, upstream: a}]",
        [
            "1: upstreams: missing, give at least one upstream",
        ],
    ),
    (
        'upstreams: {a: "127.0.0.1:1"}',
        [
            "1: routes: missing, give at least one route",
        ],
    ),
    (
        ("upstreams: {a: {}}\nroutes: [{name: all, upstream: a}]\n"),
        [
            "1: upstreams.a.endpoints: missing, give at least one host:port",
        ],
    ),
    (
        ('upstreams: {a: "http://127.0.0.1:1/v2"}\nroutes: [{name: all, upstream: a}]\n'),
        [
            "1: upstreams.a: got 'http://127.0.0.1:1/v2', must be host:port without a scheme or a path, such as 127.0.0.1:9001; for https give tls",
        ],
    ),
    (
        "upstreams: {a: {endpoints: 'h:1', tls: }}\nroutes: [{name: all, upstream: a}]\n",
        [
            "1: upstreams.a.tls: got nothing, give its keys, {} for the defaults of an upstream, or remove it",
        ],
    ),
    (
        "upstreams: {a: {endpoints: [unix:/run/m.sock, 'h:1'], tls: {key: k, server_name: 'a b'}}}\nroutes: [{name: all, upstream: a}]\n",
        [
            "1: upstreams.a.tls.server_name: got 'a b', must be a host name or an IP address, as the certificate has it",
            "1: upstreams.a.tls.key: needs certificate, the file with the client certificate that it belongs to",
        ],
    ),
    (
        "upstreams: {a: {endpoints: [unix:/run/m.sock], tls: {}}}\nroutes: [{name: all, upstream: a}]\n",
        [
            "1: upstreams.a.tls.server_name: missing, a Unix socket has no host name to verify the certificate by",
        ],
    ),
    (
        "listeners: unix:/run/m.sock\nupstreams: {a: unix:/run/m.sock}\nroutes: [{name: all, upstream: a}]\n",
        [
            "2: upstreams.a: got 'unix:/run/m.sock', a listener of Parallax itself, requests would go in a circle",
        ],
    ),
    (
        ('upstreams: {a: {endpoints: ["127.0.0.1:1", "127.0.0.1:1"]}}\nroutes: [{name: all, upstream: a}]\n'),
        [
            "1: upstreams.a.endpoints[1]: got '127.0.0.1:1', already given as upstreams.a.endpoints[0], remove one",
        ],
    ),
    (
        ('upstreams: {a: ["localhost:8080"]}\nroutes: [{name: all, upstream: a}]\n'),
        [
            "1: upstreams.a[0]: got 'localhost:8080', a listener of Parallax itself, requests would go in a circle",
        ],
    ),
    (
        ('upstreams: {a: {endpoints: "h:1", timeouts: {first_byte: 3m}}}\nroutes: [{name: all, upstream: a}]\n'),
        [
            "1: upstreams.a.timeouts.first_byte: got '3m', must be ≤ total (120s by default)",
        ],
    ),
    (
        (
            'upstreams: {a: {endpoints: "h:1", timeouts: {first_byte: 3s, total: 2s, connect: -1s}}}\n'
            "routes: [{name: all, upstream: a}]\n"
        ),
        [
            "1: upstreams.a.timeouts.connect: got '-1s', must be a duration such as 250ms, 2s, 5m, 1h or 30d",
            "1: upstreams.a.timeouts.first_byte: got '3s', must be ≤ total ('2s')",
        ],
    ),
    (
        ('upstreams: {a: {endpoints: "h:1", host: presrve}}\nroutes: [{name: all, upstream: a}]\n'),
        [
            "1: upstreams.a.host: got 'presrve', must be preserve, endpoint or the name of a host, did you mean 'preserve'?",
        ],
    ),
    (
        (
            'upstreams: {a: {endpoints: "h:1", max_connections: 0, idempotent: yes}}\n'
            "routes: [{name: all, upstream: a}]\n"
        ),
        [
            "1: upstreams.a.max_connections: got 0, must be ≥ 1",
            "1: upstreams.a.idempotent: got 'yes', must be true or false, or on or off",
        ],
    ),
    (
        "log: {headers: [Authorization], redact: [user], retention: {age: 1s}, spool: 1}",
        [
            "6: log.headers[0]: got 'Authorization', must not carry credentials, they are never logged",
            "6: log.redact[0]: got 'user', must be a JSON pointer, such as /user/id",
            "6: log.retention.age: got '1s', must be ≥ 1m",
            "6: log.spool: got 1, must be ≥ 1MiB",
        ],
    ),
]


@pytest.mark.parametrize(("text", "expected"), CASES, ids=[text.strip()[:60] for text, _ in CASES])
def test_a_wrong_value_is_reported_with_its_path_value_and_bound(problems, text: str, expected: list[str]) -> None:
    """Each mistake gives exactly these lines."""
    assert problems(text, {"SECRET": "hunter2"}) == expected


def test_all_mistakes_of_a_file_are_reported_at_once_in_file_order(problems) -> None:
    """One broken value hides no other, not even in the same mapping."""
    text = (
        "shadows: {s: {upstream: modle-a, fraction: 10, colour: red}}\n"
        "faults: {definitions: {f: {kind: delai, dose: 200%, target: {routes: [nowhere]}}}}\n"
        "workers: 0\n"
    )
    assert problems(text) == [
        "6: shadows.s.fraction: got 10, must be between 0 and 1, or 0% and 100%",
        (
            "6: shadows.s.colour: unknown key, must be upstream, fraction, by, salt, methods, path_prefixes, deadline, "
            "max_concurrency, max_queue, max_body, max_inflight, headers, …"
        ),
        "6: shadows.s.upstream: unknown upstream 'modle-a', did you mean 'model-a'?",
        (
            "7: faults.definitions.f.kind: got 'delai', must be delay, abort, reset, noise, bias, flip, constant, stale, permute, drop, nan, quantize, …, "
            "did you mean 'delay'?"
        ),
        "7: faults.definitions.f.dose: got '200%', must be between 0 and 1, or 0% and 100%",
        "7: faults.definitions.f.max_duration: missing, every fault ends by itself, give a duration such as 5m",
        "7: faults.definitions.f.target.routes[0]: unknown route 'nowhere', must be all",
        "8: workers: got 0, must be ≥ 1, or auto",
    ]


def test_an_empty_section_counts_as_not_given(right: str, problems) -> None:
    """`shadows:` with nothing after it is the same as no `shadows`."""
    assert problems(right + "shadows:\nadmin:\nlog:\n") == []
