"""What a controller counts, as Prometheus reads it."""

from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector, generate_latest


class Counts:
    """One controller's counts."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(f"tidegate_control_{name}", text, registry=registry)

        def counter(name: str, text: str) -> Counter:
            return Counter(f"tidegate_control_{name}", text, registry=registry)

        self.active = gauge("active", "1 while this controller is the active one.")
        self.alarms = gauge("alarms", "Releases to everyone that break their guardrail.")
        self.last_look = gauge(
            "last_look_timestamp_seconds", "When it has last looked at guardrails, if it is active."
        )
        self.refills = counter("refills", "Times that it has filled Redis from the store.")
        self.halts = counter("halts", "Releases that it has paused: they broke their guardrail.")
        self.failures = counter("failures", "Looks that failed; the log says why.")

    def render(self) -> bytes:
        """Write them as Prometheus reads them."""
        return generate_latest(self._registry)
