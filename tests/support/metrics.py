"""Reading back what the metrics listener answers."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from tests.support.gateway import request

METRICS_PATH = "/apisix/prometheus/metrics"


class Scrape:
    """The samples of one answer in the text format."""

    def __init__(self, text: str) -> None:
        families = list(text_string_to_metric_families(text))
        self.types = {family.name: family.type for family in families}
        self.samples = {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in families
            for sample in family.samples
        }

    def value(self, name: str, **labels: str) -> float:
        return self.samples[name, tuple(sorted(labels.items()))]

    def by_worker(self, name: str) -> dict[int, float]:
        """The values of a metric that each worker has once."""
        found = {int(dict(labels)["worker"]): value for (at, labels), value in self.samples.items() if at == name}
        assert found, name
        return found

    @property
    def names(self) -> set[str]:
        return {name for name, _ in self.samples}


def scrape(port: int, path: str = METRICS_PATH) -> Scrape:
    """What a metrics listener answers now."""
    reply = request(port, "GET", path)
    assert reply.status == 200, reply
    return Scrape(reply.body.decode())
